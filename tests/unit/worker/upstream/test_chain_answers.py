"""Test the chunks that a target passes on, and the condition for a whole answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shared.model.errors import ProviderTruncated, ProviderUnreachable
from tests.support.core import captured_logs
from tests.unit.worker.upstream.stub_provider import (
    FIRST_TOKEN_S,
    GAP_S,
    ROLE,
    STOP,
    TOTAL_S,
    USAGE,
    StubProvider,
    ending,
    let_timers_fire,
    read,
    target,
    token,
)
from worker.upstream.chain import LAST_WORDS_S, ProviderTarget
from worker.upstream.wire.chunk import Chunk


async def test_chunks_come_in_order_and_the_upstream_is_closed_after_them() -> None:
    provider = StubProvider(ROLE, token("a"), token("b"), STOP, USAGE, None)
    assert await read(provider) == [token("a"), token("b"), STOP, USAGE]
    assert provider.closed.is_set()


async def test_a_chunk_may_say_everything_at_once() -> None:
    whole = Chunk(deltas=({"content": "a"},), finished=((0, "stop"),), usage={"prompt_tokens": 1})
    assert await read(StubProvider(whole, None)) == [whole]


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (1, []),
        (1, [ROLE, USAGE]),
        (1, [token(), token()]),
        (2, [token(), token(index=1), STOP]),
        (2, [Chunk(finished=((1, "stop"),)), token()]),
    ],
)
async def test_an_end_without_a_finish_reason_is_no_success(n: int, said: list[Chunk]) -> None:
    with pytest.raises(ProviderTruncated, match="The provider mock ended its stream without a finish reason"):
        await read(StubProvider(*said, None), n=n)


async def test_a_provider_that_gives_fewer_choices_than_were_asked_for_has_answered() -> None:
    assert await read(StubProvider(token(), STOP, None), n=3) == [token(), STOP]


@pytest.mark.parametrize("n", [None, "two", -1])
async def test_a_strange_number_of_choices_is_the_providers_to_judge(n: Any) -> None:
    assert await read(StubProvider(token(), STOP, None), n=n) == [token(), STOP]


async def test_each_choice_has_its_end() -> None:
    said = [token(), token(index=1), Chunk(finished=((1, "length"),)), token(), STOP, USAGE]
    assert await read(StubProvider(*said, None), n=2) == said


async def test_an_answer_that_is_finished_but_never_ends_is_whole(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token(), STOP, ROLE)
    reading = asyncio.create_task(read(provider))
    await provider.waiting.wait()
    assert not reading.done()
    with captured_logs() as logs:
        pass_time(LAST_WORDS_S)
        assert await ending(reading) == [token(), STOP]
    assert provider.closed.is_set()
    assert [event["after_s"] for event in logs.named("provider.left_open")] == [LAST_WORDS_S]


async def test_after_the_finish_no_token_is_owed(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token(), STOP)
    short = ProviderTarget(provider, first_token_s=LAST_WORDS_S / 4, gap_s=LAST_WORDS_S / 4)

    async def read_it() -> list[Chunk]:
        async with short.stream({}, total_s=TOTAL_S) as chunks:
            return [chunk async for chunk in chunks]

    reading = asyncio.create_task(read_it())
    await provider.waiting.wait()
    pass_time(LAST_WORDS_S / 2)
    await let_timers_fire()
    provider.say(USAGE)
    provider.say(None)
    assert await ending(reading) == [token(), STOP, USAGE]


async def test_an_answer_that_breaks_after_its_finish_is_whole() -> None:
    assert await read(StubProvider(token(), STOP, ProviderUnreachable("reset"))) == [token(), STOP]


async def test_a_provider_that_finishes_before_it_ends_is_heard_out(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider(token("a"), STOP)
    reading = asyncio.create_task(read(provider))
    for text in "bcd":
        await provider.waiting.wait()
        provider.waiting.clear()
        pass_time(LAST_WORDS_S - 0.5)
        await let_timers_fire()
        provider.say(token(text))
    provider.say(STOP)
    provider.say(None)
    assert await reading == [token("a"), STOP, token("b"), token("c"), token("d"), STOP]


async def test_errors_of_the_provider_pass_through() -> None:
    error = ProviderUnreachable("reset")
    with pytest.raises(ProviderUnreachable) as raised:
        await read(StubProvider(token(), error))
    assert raised.value is error


async def test_a_target_asks_for_the_model_by_the_name_that_its_provider_knows() -> None:
    provider = StubProvider(token("a"), STOP, None)
    renamed = ProviderTarget(provider, first_token_s=FIRST_TOKEN_S, gap_s=GAP_S, model="gpt-a-eu")
    async with renamed.stream({"model": "gpt-a"}, total_s=TOTAL_S) as chunks:
        async for _ in chunks:
            pass

    assert provider.requests == [{"model": "gpt-a-eu"}]
    assert (renamed.model("gpt-a"), target(provider).model("gpt-a")) == ("gpt-a-eu", "gpt-a")
