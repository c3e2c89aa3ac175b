"""Test that a pump repeats what Redis has lost, and nothing that Redis has."""

import asyncio

import pytest

from tests.contract.faulty_logs import Forgetful
from tests.contract.pumping import KIB, flushed, open_outbox, pumping, put, put_and_flush, texts_of
from tests.support.core import Core, captured_logs


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


async def test_entries_that_redis_lost_are_appended_again(core: Core) -> None:
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
