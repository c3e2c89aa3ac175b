"""Test that a verdict of Redis ends the one execution that it is about."""

import asyncio

from shared.model.lifecycle import State
from tests.contract.faulty_logs import Gate
from tests.contract.pumping import KIB, flushed, open_outbox, pumping, put, put_and_flush, texts_of
from tests.support.core import TIMEOUT_S, Core


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


async def test_a_verdict_releases_a_waiting_provider(core: Core) -> None:
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
