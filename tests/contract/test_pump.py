"""Test the pump on a real log: everything arrives, once and in order, despite any failure of Redis."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.model.events import EventType, encode_data
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.executions import Execution
from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import AppendAnswer, StopReason, Written
from tests.support.core import TIMEOUT_S, Core, captured_logs, frozen
from worker.execution import pump as pump_module
from worker.execution.pump import Outbox, Pump

KIB = 1024
ROOMY = 256 * KIB


@asynccontextmanager
async def pumping(log: ReplayLog, max_bytes: int = ROOMY, metrics: Metrics | None = None) -> AsyncIterator[Pump]:
    """Run a pump."""
    pump = Pump(log, SystemClock(), max_bytes=max_bytes, metrics=metrics)
    task = asyncio.create_task(pump.run())
    try:
        yield pump
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def open_outbox(pump: Pump, execution: Execution) -> tuple[Outbox, list[StopReason]]:
    """Open an outbox; return it with the list of its verdicts."""
    verdicts: list[StopReason] = []
    return pump.open(execution, verdicts.append), verdicts


async def put(outbox: Outbox, *texts: str) -> None:
    for text in texts:
        await outbox.put(EventType.DELTA, encode_data({"content": text}))


async def put_and_flush(outbox: Outbox, *texts: str) -> None:
    await put(outbox, *texts)
    await flushed(outbox)


async def flushed(*outboxes: Outbox) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        for outbox in outboxes:
            await outbox.flushed()


async def texts_of(core: Core, execution: Execution) -> list[str]:
    """Return the texts of the job's deltas; their ids must follow each other without a gap."""
    deltas = [event for event in await core.events(execution.job_id) if event.type is EventType.DELTA]
    assert [event.id for event in deltas] == [(execution.epoch, seq) for seq in range(2, len(deltas) + 2)]
    return [event.json()["content"] for event in deltas]


class Gate(ReplayLog):
    """Block a log until the test opens it, and count the requests."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.client, core.keys)
        self.opened = asyncio.Event()
        self.asked = asyncio.Event()
        self.batches: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> list[AppendAnswer]:
        self.batches.append(len(entries))
        self.asked.set()
        await self.opened.wait()
        return await super().append(entries)


class Forgetful(ReplayLog):
    """Lose the first acknowledgements of a log; the appended entries are there."""

    def __init__(self, core: Core, losses: int) -> None:
        super().__init__(core.client, core.keys)
        self.given: list[list[Entry]] = []
        self._losses = losses

    async def append(self, entries: Sequence[Entry]) -> list[AppendAnswer]:
        self.given.append(list(entries))
        answers = await super().append(entries)
        if self._losses > 0:
            self._losses -= 1
            raise RedisConnectionError("The connection broke before the answer came.")
        return answers


class Memory:
    """Save the contents of Redis for one job, to restore them as after a crash."""

    def __init__(self, core: Core, job_id: str) -> None:
        self._core = core
        keys = core.keys.job(job_id)
        self._names = (keys.record, keys.log)
        self._dumps: list[bytes] = []

    async def take(self) -> None:
        self._dumps = [await self._core.client.dump(name) for name in self._names]

    async def go_back(self) -> None:
        for name, dump in zip(self._names, self._dumps, strict=True):
            await self._core.client.restore(name, 0, dump, replace=True)


# Order and completeness.


async def test_many_outboxes_are_emptied_in_order_and_completely(core: Core) -> None:
    source = random.Random(7)
    said = {
        await core.running(f"w.{n}"): [f"{source.randrange(10**9)}" * source.choice([1, 3, 200]) for _ in range(60)]
        for n in range(20)
    }
    async with pumping(core.log) as pump:
        outboxes = [(open_outbox(pump, execution)[0], texts) for execution, texts in said.items()]
        await asyncio.gather(*(put_and_flush(outbox, *texts) for outbox, texts in outboxes))

    for execution, texts in said.items():
        assert await texts_of(core, execution) == texts


async def test_everything_put_is_published_too(core: Core) -> None:
    execution = await core.running()
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        async with pumping(core.log) as pump:
            await put_and_flush(open_outbox(pump, execution)[0], *map(str, range(100)))
        received = b"".join(await listener.received())

    assert received
    assert (await core.log_bytes(execution.job_id)).endswith(received)
    assert received.count(b"event: delta") == 100


async def test_the_terminal_event_follows_what_was_flushed(core: Core) -> None:
    execution = await core.running()
    async with pumping(core.log) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a", "b")

        assert await core.finish(execution, State.COMPLETED, seq=outbox.seq + 1) == Written()


async def test_one_flush_is_one_call_for_all_jobs(own_core: Core) -> None:
    executions = [await own_core.running(f"w.{n}") for n in range(50)]
    pump = Pump(own_core.log, SystemClock(), max_bytes=ROOMY)
    outboxes = [open_outbox(pump, execution)[0] for execution in executions]
    for outbox in outboxes:
        await put(outbox, "a", "b", "c")
    before = await calls(own_core)

    running = asyncio.create_task(pump.run())
    await flushed(*outboxes)
    after = await calls(own_core)
    running.cancel()
    await asyncio.wait([running])

    assert after - before == 1
    assert [str(tail) for tail in await own_core.tails(*(each.job_id for each in executions))] == ["1-4"] * 50


async def calls(core: Core) -> int:
    """Return how many function calls the server has seen."""
    stats = await core.client.info("commandstats")
    return int(stats["cmdstat_fcall"]["calls"])


async def test_what_comes_while_a_flush_is_under_way_goes_together_in_the_next(core: Core) -> None:
    gate = Gate(core)
    executions = [await core.running(f"w.{n}") for n in range(30)]
    async with pumping(gate) as pump:
        outboxes = [open_outbox(pump, execution)[0] for execution in executions]
        await put(outboxes[0], "first")
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        for outbox in outboxes:
            await put(outbox, "a", "b")
        gate.opened.set()
        await flushed(*outboxes)

    assert gate.batches == [1, 30]
    assert await texts_of(core, executions[0]) == ["first", "a", "b"]
    assert await texts_of(core, executions[29]) == ["a", "b"]


async def test_an_idle_pump_asks_for_nothing(core: Core) -> None:
    gate = Gate(core)
    gate.opened.set()
    execution = await core.running()
    async with pumping(gate) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a")
        for _ in range(20):
            await asyncio.sleep(0)

    assert gate.batches == [1]


# Back-pressure.


async def test_a_frozen_redis_makes_the_provider_wait_and_nothing_is_lost_or_told_twice(
    own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    execution = await own_core.running()
    texts = [f"{n:04}" + "x" * KIB for n in range(64)]
    async with pumping(own_core.log, max_bytes=8 * KIB) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        with captured_logs() as logs, frozen(own_valkey) as thaw:
            putting = asyncio.create_task(put_and_flush(outbox, *texts))
            await logs.wait_for("pump.redis_lost")
            held = outbox.log_bytes
            assert not putting.done()
            assert held < 10 * KIB
            thaw()
            await asyncio.wait_for(putting, TIMEOUT_S)

    assert await texts_of(own_core, execution) == texts
    assert verdicts == []


async def test_a_redis_that_restarts_is_waited_for(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    execution = await own_core.running()
    async with pumping(own_core.log) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a")
        with captured_logs() as logs:
            await own_valkey.stop()
            await put(outbox, "b")
            await logs.wait_for("pump.redis_lost")
            await put(outbox, "c")
            await own_valkey.start()
            await flushed(outbox)

    assert await texts_of(own_core, execution) == ["a", "b", "c"]


async def test_a_redis_without_room_is_waited_for(own_core: Core) -> None:
    execution = await own_core.running()
    async with pumping(own_core.log) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        with captured_logs() as logs:
            await own_core.client.config_set("maxmemory", 1)
            await put(outbox, "a")
            await logs.wait_for("pump.busy")
            await put(outbox, "b")
            await own_core.client.config_set("maxmemory", 0)
            await flushed(outbox)

    assert await texts_of(own_core, execution) == ["a", "b"]
    assert verdicts == []


async def test_one_full_outbox_does_not_hold_up_another(core: Core) -> None:
    gate = Gate(core)
    full, other = await core.running("w.1"), await core.running("w.2")
    async with pumping(gate, max_bytes=4 * KIB) as pump:
        full_box, other_box = open_outbox(pump, full)[0], open_outbox(pump, other)[0]
        putting = asyncio.create_task(put(full_box, "x" * 5 * KIB, "after"))
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        await asyncio.wait_for(put(other_box, "a"), TIMEOUT_S)
        assert not putting.done()
        gate.opened.set()
        await asyncio.wait_for(putting, TIMEOUT_S)
        await flushed(full_box, other_box)

    assert await texts_of(core, full) == ["x" * 5 * KIB, "after"]
    assert await texts_of(core, other) == ["a"]


async def test_a_flush_is_bounded_whatever_waits(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "FLUSH_BYTES", 8 * KIB)
    gate = Gate(core)
    executions = [await core.running(f"w.{n}") for n in range(9)]
    async with pumping(gate) as pump:
        outboxes = [open_outbox(pump, execution)[0] for execution in executions]
        for outbox in outboxes:
            await put(outbox, "x" * 3 * KIB)
        gate.opened.set()
        await flushed(*outboxes)

    assert gate.batches == [3, 3, 3]
    assert [await texts_of(core, execution) for execution in executions] == [["x" * 3 * KIB]] * 9


async def test_a_job_with_much_to_send_leaves_the_next_flush_to_others(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "FLUSH_BYTES", 1)
    log = Forgetful(core, 0)
    much, little = await core.running("w.1"), await core.running("w.2")
    async with pumping(log) as pump:
        much_box, little_box = open_outbox(pump, much)[0], open_outbox(pump, little)[0]
        await put(much_box, *["x" * 40 * KIB] * 4)
        await put(little_box, "a")
        await flushed(much_box, little_box)

    assert [[entry.job_id for entry in batch] for batch in log.given] == [
        [much.job_id],
        [little.job_id],
        *[[much.job_id]] * 3,
    ]


# Lost acknowledgements.


@pytest.mark.parametrize("losses", [1, 3])
async def test_after_a_lost_acknowledgement_the_identical_entry_goes_again(core: Core, losses: int) -> None:
    log = Forgetful(core, losses)
    execution = await core.running()
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        async with pumping(log) as pump:
            outbox, _ = open_outbox(pump, execution)
            with captured_logs() as logs:
                await put(outbox, "a", "b")
                await logs.wait_for("pump.redis_lost")
                await put(outbox, "c")
                await flushed(outbox)
        received = b"".join(await listener.received())

    assert log.given[: losses + 1] == [log.given[0]] * (losses + 1)
    assert await texts_of(core, execution) == ["a", "b", "c"]
    assert received == (await core.log_bytes(execution.job_id)).split(b"id: 1-1\n\n")[1]


async def test_a_lost_acknowledgement_of_many_jobs_repeats_and_loses_nothing(core: Core) -> None:
    executions = [await core.running(f"w.{n}") for n in range(20)]
    async with pumping(Forgetful(core, 1)) as pump:
        outboxes = [open_outbox(pump, execution)[0] for execution in executions]
        with captured_logs():
            await asyncio.gather(*(put_and_flush(outbox, *"abcdef") for outbox in outboxes))

    for execution in executions:
        assert await texts_of(core, execution) == list("abcdef")


# When Redis forgets.


async def test_what_redis_forgot_is_logged_again(core: Core) -> None:
    execution = await core.running()
    memory = Memory(core, execution.job_id)
    async with pumping(core.log) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        await put_and_flush(outbox, "a", "b")
        await memory.take()
        await put_and_flush(outbox, "c")
        await put_and_flush(outbox, "d")
        await memory.go_back()
        assert await texts_of(core, execution) == ["a", "b"]
        with captured_logs() as logs:
            await put_and_flush(outbox, "e")

    assert await texts_of(core, execution) == list("abcde")
    assert verdicts == []
    assert logs.named("pump.sends_again")[0]["log_ends_at"] == 3


async def test_an_execution_that_can_not_fill_the_gap_is_over(core: Core) -> None:
    execution = await core.running()
    memory = Memory(core, execution.job_id)
    await memory.take()
    async with pumping(core.log) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        for _ in range(6):
            await put_and_flush(outbox, "x" * 60 * KIB)
        await memory.go_back()
        await put_and_flush(outbox, "e")

    assert verdicts == ["behind"]
    assert await texts_of(core, execution) == []


# Verdicts.


async def test_a_verdict_reaches_the_one_execution_it_is_about(core: Core) -> None:
    fine, fenced, cancelled, ended, missing = [await core.running(f"w.{n}") for n in range(5)]
    async with pumping(core.log) as pump:
        boxes = [open_outbox(pump, each) for each in (fine, fenced, cancelled, ended, missing)]
        for outbox, _ in boxes:
            await put_and_flush(outbox, "before")
        await core.begin(fenced.job_id, "another")
        await core.cancel(cancelled.job_id)
        await core.finish(ended, State.FAILED)
        await core.client.delete(core.keys.job(missing.job_id).record)

        await asyncio.gather(*(put_and_flush(outbox, "after", "more") for outbox, _ in boxes))
        await asyncio.gather(*(put_and_flush(outbox, "at last") for outbox, _ in boxes))

    assert [verdicts for _, verdicts in boxes] == [[], ["fenced"], ["cancelled"], ["ended"], ["missing"]]
    assert await texts_of(core, fine) == ["before", "after", "more", "at last"]
    assert (await core.story(cancelled.job_id))[2:] == ["1-2 delta"]
    assert (await core.story(ended.job_id))[2:] == ["1-2 delta", "1-3 failed"]


async def test_a_verdict_lets_a_waiting_provider_go(core: Core) -> None:
    gate = Gate(core)
    execution = await core.running()
    async with pumping(gate, max_bytes=4 * KIB) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        putting = asyncio.create_task(put_and_flush(outbox, "x" * 5 * KIB, "after"))
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        await core.cancel(execution.job_id)
        gate.opened.set()
        await asyncio.wait_for(putting, TIMEOUT_S)

    assert verdicts == ["cancelled"]
    assert await texts_of(core, execution) == []


async def test_a_verdict_while_more_is_waiting_leaves_nothing_behind_that_stops_the_pump(core: Core) -> None:
    gate = Gate(core)
    fenced, fine = await core.running("w.1"), await core.running("w.2")
    async with pumping(gate) as pump:
        fenced_box, verdicts = open_outbox(pump, fenced)
        await put(fenced_box, "a")
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        await put(fenced_box, "b")
        await core.begin(fenced.job_id, "another")
        gate.opened.set()
        await flushed(fenced_box)
        await put_and_flush(open_outbox(pump, fine)[0], "c")

    assert verdicts == ["fenced"]
    assert gate.batches == [1, 1]
    assert await texts_of(core, fine) == ["c"]


async def test_the_metrics_say_what_waits_for_redis_and_how_long_each_flush_took(core: Core) -> None:
    metrics, gate = Metrics(), Gate(core)
    async with pumping(gate, metrics=metrics) as pump:
        outboxes = [open_outbox(pump, await core.running(f"w.{number}"))[0] for number in range(2)]
        for outbox in outboxes:
            await put(outbox, "Hel", "lo")
        waiting = sum(outbox.log_bytes for outbox in outboxes)
        async with asyncio.timeout(TIMEOUT_S):
            await gate.asked.wait()
        assert metrics.pump_bytes.of().numbers() == (waiting,)
        assert sum(metrics.append.of().numbers()) == 0
        gate.opened.set()
        await flushed(*outboxes)
        assert metrics.pump_bytes.of().numbers() == (0,)

    *flushes, seconds = metrics.append.of().numbers()
    assert sum(flushes) == len(gate.batches)
    assert 0 < seconds < TIMEOUT_S
