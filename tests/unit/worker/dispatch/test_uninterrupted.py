"""Test steps that belong together: a cancellation follows them, and only a second one or the bound cuts them short."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.core import TIMEOUT_S
from worker.dispatch.uninterrupted import run_uninterrupted


class Steps:
    """Two steps; the second one waits for `may_end`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.may_end, self.ended = asyncio.Event(), asyncio.Event(), False
        self._error = error

    async def run(self) -> str:
        self.begun.set()
        await self.may_end.wait()
        self.ended = True
        if self._error is not None:
            raise self._error
        return "done"


async def cancelled_in_between(steps: Steps, within_s: float | None = None) -> "asyncio.Task[str]":
    task = asyncio.create_task(run_uninterrupted(steps.run(), within_s))
    await steps.begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    return task


async def test_the_result_of_the_steps_is_returned() -> None:
    steps = Steps()
    steps.may_end.set()
    assert await run_uninterrupted(steps.run()) == "done"


async def test_a_fault_of_redis_is_raised() -> None:
    steps = Steps(RedisConnectionError())
    steps.may_end.set()
    with pytest.raises(RedisConnectionError):
        await run_uninterrupted(steps.run())


@pytest.mark.parametrize("error", [None, RedisConnectionError()], ids=["done", "failed"])
async def test_steps_end_before_a_cancellation_is_raised(error: Exception | None) -> None:
    steps = Steps(error)
    task = await cancelled_in_between(steps)
    assert not task.done()
    steps.may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT_S)
    assert steps.ended


async def test_a_second_cancellation_ends_the_steps() -> None:
    steps = Steps()
    task = await cancelled_in_between(steps)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT_S)
    assert not steps.ended


async def test_steps_that_take_longer_than_their_bound_are_ended() -> None:
    steps = Steps()
    task = await cancelled_in_between(steps, within_s=0.01)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT_S)
    assert not steps.ended
