"""Test that the upstream is closed if its caller leaves, fails or is cancelled."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.unit.worker.upstream.stub_provider import (
    GAP_S,
    TOTAL_S,
    StubProvider,
    Unconnected,
    asking,
    let_timers_fire,
    read,
    token,
)


async def test_a_time_out_of_the_callers_own_is_not_taken_for_ours() -> None:
    async def fail() -> None:
        async with asking(StubProvider(token())) as chunks:
            async for _ in chunks:
                raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await fail()


async def test_a_caller_that_leaves_early_closes_the_upstream() -> None:
    provider = StubProvider(token(), token())
    async with asking(provider) as chunks:
        async for _ in chunks:
            break
    assert provider.closed.is_set()


async def test_a_caller_that_never_reads_asks_nothing() -> None:
    provider = StubProvider()
    async with asking(provider):
        pass
    assert not provider.asked.is_set()


@pytest.mark.parametrize("provider_type", [StubProvider, Unconnected])
async def test_a_cancelled_scope_closes_the_upstream_of_a_waiting_caller(provider_type: type[StubProvider]) -> None:
    provider = provider_type()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, provider)
            await provider.waiting.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert provider.closed.is_set()


async def test_a_cancelled_scope_closes_the_upstream_of_a_busy_caller() -> None:
    provider = StubProvider(token())
    with anyio.CancelScope() as scope:
        async with asking(provider) as chunks:
            async for _ in chunks:
                scope.cancel()
                await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert provider.closed.is_set()


async def test_a_cancelled_task_closes_the_upstream_and_stays_cancelled() -> None:
    provider = StubProvider(token())
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert provider.closed.is_set()


async def test_no_timer_fires_after_a_stream_was_cancelled(pass_time: Callable[[float], None]) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    provider = StubProvider()
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    pass_time(TOTAL_S)
    await let_timers_fire()
    assert faults == []


async def test_a_cancel_wins_over_a_silence_that_ends_with_it(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token())
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    pass_time(GAP_S)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
