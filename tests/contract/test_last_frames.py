"""Test an execution that ends with its last frames in one step: nothing differs from two steps, append and finish."""

import asyncio
from dataclasses import replace
from typing import Any

from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.store.executions import Execution
from shared.store.replay_log import Entry
from shared.store.wire.answers import Behind, Busy, FinishAnswer, Written
from tests.contract.faulty_logs import Gate
from tests.contract.pumping import open_outbox, pumping, put, put_and_flush, texts_of
from tests.contract.stores import expiries
from tests.contract.test_pump_lost_data import Memory
from tests.support.core import RETENTION_S, WORKER, Core, frames_of, fresh_job_id
from worker.execution.ending import Ending, finish_with_outbox

ENDING = Ending(State.COMPLETED, {"sha256": ""})
TEXTS = ("a", "b")


async def finish(core: Core, execution: Execution, last: Entry | None, status: State = State.COMPLETED) -> FinishAnswer:
    """Finish after the two deltas of `frames_of(execution, 2, *TEXTS)`."""
    data = encode_data({"sha256": "", "events": execution.base + 4})
    frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, 4))
    return await core.executions.finish(execution, seq=4, frame=frame, status=status, outcome=data, last=last)


async def in_two_steps(core: Core, execution: Execution) -> None:
    assert await core.append(frames_of(execution, 2, *TEXTS)) == [Written()]
    assert await finish(core, execution, None) == Written()


async def in_one_step(core: Core, execution: Execution) -> None:
    assert await finish(core, execution, frames_of(execution, 2, *TEXTS)) == Written()


async def state_after(core: Core, execution: Execution) -> dict[str, Any]:
    """Return the keys of a job, without the times at which they were written."""
    keys = core.keys.job(execution.job_id)
    record = await core.client.hgetall(keys.record)  # type: ignore[misc]
    fields = {name: value for name, value in record.items() if name not in (b"created", b"deadline", b"ended")}
    for name in (b"started", b"try:1"):
        fields[name] = b""
    log = [
        (each, entry[b"f"].replace(execution.job_id.encode(), b""))
        for each, entry in await core.client.xrange(keys.log)
    ]
    kept_ms = {at - (await core.job(execution.job_id)).ended_ms for at in (await expiries(core, execution.job_id))[:3]}
    return {"record": fields, "log": log, "kept": [int(ms / 1000) for ms in kept_ms]}


async def test_both_ways_leave_the_same_keys_and_publish_the_same_messages(core: Core) -> None:
    states, messages = [], []
    for end in (in_two_steps, in_one_step):
        execution = await core.running()
        async with core.listening(core.keys.channel(execution.job_id)) as listener:
            await end(core, execution)
            messages.append(await listener.received())
        states.append(await state_after(core, execution))

    assert states[1] == states[0]
    assert messages[1] == messages[0]
    assert len(messages[0]) == 2  # a gateway of any version finds the terminal event at the head of its message
    assert states[0]["kept"] == [int(RETENTION_S)]


async def test_the_identical_call_again_is_success_and_writes_nothing(core: Core) -> None:
    execution = await core.running()
    last = frames_of(execution, 2, *TEXTS)
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        answers = [await finish(core, execution, last) for _ in range(3)]
        messages = await listener.received()

    assert answers == [Written(), Written(repeated=True), Written(repeated=True)]
    assert await core.story(execution.job_id) == [
        "0-1 queued",
        "1-1 started",
        "1-2 delta",
        "1-3 delta",
        "1-4 completed",
    ]
    assert len(messages) == 2


async def test_frames_that_are_in_the_log_already_are_not_written_again(core: Core) -> None:
    execution = await core.running()
    last = frames_of(execution, 2, *TEXTS)
    await core.append(last)

    assert await finish(core, execution, last) == Written()
    assert await texts_of(core, execution) == list(TEXTS)


async def test_a_refused_step_writes_neither_frames_nor_end(core: Core) -> None:
    former = await core.running("w.1")
    later = await core.begin(former.job_id, "w.2")
    missing = Execution(fresh_job_id(), 1, WORKER, 1, 1, 1, 1)
    cancelled, behind = await core.running(), await core.running()
    await core.cancel(cancelled.job_id)
    story, cancelled_story = await core.story(later.job_id), await core.story(cancelled.job_id)

    assert await finish(core, former, frames_of(former, 2, *TEXTS)) == "fenced"
    assert await finish(core, replace(later, owner="w.3"), frames_of(later, 3, *TEXTS)) == "fenced"
    assert await finish(core, missing, frames_of(missing, 2, *TEXTS)) == "missing"
    assert await finish(core, cancelled, frames_of(cancelled, 2, *TEXTS)) == "cancelled"
    assert await finish(core, behind, frames_of(behind, 3, "b")) == Behind(1)

    assert await core.story(later.job_id) == story
    assert await core.story(cancelled.job_id) == cancelled_story
    assert await core.story(behind.job_id) == ["0-1 queued", "1-1 started"]
    assert await expiries(core, missing.job_id) == [-2] * 4


async def test_another_end_of_an_ended_job_is_refused(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.FAILED, seq=2)

    assert await finish(core, execution, frames_of(execution, 2, *TEXTS)) == "ended"
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 failed"]


async def test_a_server_without_memory_takes_the_last_frames_with_the_end(own_core: Core) -> None:
    execution = await own_core.running()
    await own_core.client.config_set("maxmemory", 1)

    (refused,) = await own_core.append(frames_of(execution, 2, *TEXTS))
    assert isinstance(refused, Busy)
    assert await finish(own_core, execution, frames_of(execution, 2, *TEXTS)) == Written()
    assert await texts_of(own_core, execution) == list(TEXTS)


# The outbox, which withholds its last frames.


async def test_withheld_frames_are_written_by_the_end_and_not_by_the_pump(core: Core) -> None:
    execution, gate, metrics = await core.running(), Gate(core), Metrics()
    async with pumping(gate, metrics=metrics) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        await put(outbox, *TEXTS)
        assert metrics.pump_bytes.of().numbers()[0] > 0
        assert outbox.hold_last()
        assert metrics.pump_bytes.of().numbers()[0] == 0  # a pump that is never idle would keep it for ever
        await asyncio.sleep(0)  # the pump's turn

        assert await finish_with_outbox(core.executions, outbox, ENDING) == Written()

    assert (gate.batches, verdicts) == ([], [])
    assert await texts_of(core, execution) == list(TEXTS)


async def test_an_outbox_without_frames_withholds_nothing_and_ends(core: Core) -> None:
    execution = await core.running()
    async with pumping(core.log) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a")
        assert outbox.hold_last()
        assert outbox.held_entry() is None

        assert await finish_with_outbox(core.executions, outbox, ENDING) == Written()

    assert await texts_of(core, execution) == ["a"]


async def test_frames_under_way_and_many_frames_are_flushed(core: Core) -> None:
    first, second, gate = await core.running("w.1"), await core.running("w.2"), Gate(core)
    async with pumping(gate) as pump:
        outbox, _ = open_outbox(pump, first)
        await put(outbox, "a")
        await asyncio.wait_for(gate.asked.wait(), 5)
        assert not outbox.hold_last()
        many, _ = open_outbox(pump, second)
        await put(many, "x" * 8_192)
        assert not many.hold_last()
        gate.opened.set()
        await asyncio.wait_for(asyncio.gather(outbox.flushed(), many.flushed()), 5)

    assert await texts_of(core, first) == ["a"]


async def test_what_redis_forgot_is_sent_again_before_withheld_frames(core: Core) -> None:
    execution = await core.running()
    memory = Memory(core, execution.job_id)
    async with pumping(core.log) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        await memory.take()
        await put_and_flush(outbox, "a", "b")
        await put(outbox, "c")
        assert outbox.hold_last()
        await memory.go_back()

        async with asyncio.timeout(5):
            assert await finish_with_outbox(core.executions, outbox, ENDING) == Written()

    assert (await texts_of(core, execution), verdicts) == (["a", "b", "c"], [])


async def test_an_outbox_that_is_stopped_withholds_nothing(core: Core) -> None:
    former = await core.running("w.1")
    async with pumping(core.log) as pump:
        outbox, verdicts = open_outbox(pump, former)
        await core.begin(former.job_id, "w.2")
        await put_and_flush(outbox, "a")

        assert not outbox.hold_last()

    assert verdicts == ["fenced"]
