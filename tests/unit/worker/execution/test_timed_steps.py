"""Test timed steps: each is measured by itself, whatever it ends with, and waits do not count."""

import asyncio

import pytest

from worker.execution.timed_steps import TimedSteps


class Work:
    """Steps that take a time of their own on this clock, with a wait between two."""

    def __init__(self) -> None:
        self.now = 0.0
        self.long: list[float] = []
        self.may_continue = asyncio.Event()

    async def steps(self, *took_s: float, fails: bool = False) -> str:
        for each in took_s:
            self.now += each
            await self.may_continue.wait()
        if fails:
            raise ValueError("failed")
        return "done"

    async def cleaning_up(self, took_s: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.now += took_s

    def timed(self, steps: object) -> "asyncio.Task[object]":
        assert asyncio.iscoroutine(steps)
        return asyncio.create_task(TimedSteps(steps, lambda: self.now, 1.0, self.long.append))


async def test_a_long_step_is_reported_and_a_wait_is_not() -> None:
    work = Work()
    task = work.timed(work.steps(1.5))
    await asyncio.sleep(0)
    work.now += 10
    work.may_continue.set()

    assert await task == "done"
    assert work.long == [1.5]


async def test_steps_that_are_short_by_themselves_are_not_reported() -> None:
    work = Work()
    task = work.timed(work.steps(0.9))
    await asyncio.sleep(0)
    work.may_continue.set()

    assert await task == "done"
    assert work.long == []


async def test_an_error_passes_and_its_step_is_reported() -> None:
    work = Work()
    work.may_continue.set()

    with pytest.raises(ValueError, match="failed"):
        await work.timed(work.steps(2.0, fails=True))
    assert work.long == [2.0]


async def test_a_long_clean_up_after_a_cancellation_is_reported() -> None:
    work = Work()
    task = work.timed(work.cleaning_up(3.0))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.long == [3.0]


async def test_timed_steps_are_not_awaited_but_run_as_a_task() -> None:
    work = Work()
    steps = TimedSteps(work.steps(), lambda: work.now, 1.0, work.long.append)
    with pytest.raises(TypeError, match="task of its own"):
        await steps
    steps.close()
