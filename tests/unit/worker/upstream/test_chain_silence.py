"""Test how long a provider may be silent, and how long an answer may take."""

import asyncio
from collections.abc import Callable

import pytest

from shared.model.errors import DeadlinePassed, ProviderTimeout
from tests.unit.worker.upstream.stub_provider import (
    FIRST_TOKEN_S,
    GAP_S,
    ROLE,
    STOP,
    TOTAL_S,
    USAGE,
    StubProvider,
    Unconnected,
    asking,
    ending,
    let_timers_fire,
    read,
    token,
)
from worker.upstream.chain import ProviderTarget
from worker.upstream.wire.chunk import Chunk


async def test_a_provider_that_says_nothing_times_out(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S - 1)
    await let_timers_fire()
    assert not reading.done()
    pass_time(1)
    with pytest.raises(ProviderTimeout, match=r"^The provider mock sent no token for 20 s\.$"):
        await ending(reading)
    assert provider.closed.is_set()


async def test_a_provider_that_does_not_connect_times_out(pass_time: Callable[[float], None]) -> None:
    provider = Unconnected()
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S)
    with pytest.raises(ProviderTimeout, match="no token for 20 s"):
        await ending(reading)
    assert provider.closed.is_set()


async def test_a_provider_that_stops_talking_times_out(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token(), token())
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    pass_time(GAP_S)
    with pytest.raises(ProviderTimeout, match=r"^The provider mock sent no further token for 5 s\.$"):
        await ending(reading)
    assert provider.closed.is_set()


async def test_a_provider_is_not_blamed_for_the_time_in_which_this_process_was_frozen(
    pass_time: Callable[[float], None],
) -> None:
    provider, loop = StubProvider(token()), asyncio.get_running_loop()
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    pass_time(GAP_S)

    def read_from_the_socket(rounds: int) -> None:
        if rounds:
            loop.call_soon(read_from_the_socket, rounds - 1)
        else:
            for each in (token(), STOP, None):
                provider.say(each)

    read_from_the_socket(5)

    assert len(await ending(reading)) == 3


@pytest.mark.parametrize("empty", [ROLE, USAGE, Chunk(finished=((1, "stop"),))])
async def test_a_chunk_without_a_token_does_not_end_a_silence(empty: Chunk, pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token())
    reading = asyncio.create_task(read(provider, n=2))
    for _ in range(5):
        await provider.waiting.wait()
        provider.say(empty)
        provider.waiting.clear()
        pass_time(1)
        await let_timers_fire()
    with pytest.raises(ProviderTimeout, match="no further token"):
        await ending(reading)


async def test_tokens_that_come_in_time_continue_for_ever(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    reading = asyncio.create_task(read(provider))
    for _ in range(20):
        await provider.waiting.wait()
        pass_time(GAP_S - 1)
        await let_timers_fire()
        provider.waiting.clear()
        provider.say(token())
    provider.say(STOP)
    provider.say(None)
    assert len(await reading) == 21


async def test_the_clock_stands_still_while_the_caller_is_busy(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token(), token(), STOP, None)
    got = []
    async with asking(provider) as chunks:
        async for chunk in chunks:
            got.append(chunk)
            if chunk.deltas:
                pass_time(10 * GAP_S)
                await let_timers_fire()
    assert got == [token(), token(), STOP]


async def test_after_a_busy_caller_the_provider_has_its_whole_time_again(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token())
    busy = asyncio.Event()

    async def read_slowly() -> list[Chunk]:
        async with asking(provider) as chunks:
            async for _ in chunks:
                pass_time(3.5 * GAP_S)
                await let_timers_fire()
                busy.set()
        return []

    reading = asyncio.create_task(read_slowly())
    await busy.wait()
    await provider.waiting.wait()
    pass_time(GAP_S - 1)
    await let_timers_fire()
    assert not reading.done()
    pass_time(1)
    with pytest.raises(ProviderTimeout):
        await ending(reading)


async def test_the_deadline_passes_while_the_caller_waits(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token())
    reading = asyncio.create_task(read(provider, total_s=3))
    await provider.waiting.wait()
    pass_time(3)
    with pytest.raises(DeadlinePassed, match=r"^The answer was incomplete after 3 s\.$"):
        await reading
    assert provider.closed.is_set()


async def test_the_deadline_passes_while_the_caller_is_busy(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token(), token())
    busy = asyncio.Event()

    async def get_stuck() -> None:
        async with asking(provider, total_s=3) as chunks:
            async for _ in chunks:
                busy.set()
                await asyncio.Event().wait()

    stuck = asyncio.create_task(get_stuck())
    await busy.wait()
    pass_time(3)
    with pytest.raises(DeadlinePassed):
        await stuck
    assert provider.closed.is_set()


async def test_a_deadline_that_has_passed_before_passes_at_once() -> None:
    with pytest.raises(DeadlinePassed):
        await read(StubProvider(), total_s=-1)


async def test_an_attempt_that_takes_longer_than_its_target_allows_is_the_providers_fault(
    pass_time: Callable[[float], None],
) -> None:
    provider = StubProvider(token())
    bounded = ProviderTarget(provider, first_token_s=FIRST_TOKEN_S, gap_s=GAP_S, total_s=GAP_S / 2)

    async def read_slowly() -> None:
        async with bounded.stream({}, total_s=TOTAL_S) as chunks:
            async for _ in chunks:
                pass_time(GAP_S / 2)
                await let_timers_fire()

    with pytest.raises(ProviderTimeout, match=r"had not finished its answer after"):
        await read_slowly()
