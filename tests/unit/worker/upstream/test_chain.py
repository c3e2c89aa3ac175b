"""Test the limits of a provider's silence, and the condition for a whole answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest

from shared.model.errors import (
    DeadlinePassed,
    ModelNotFound,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnable,
    ProviderUnreachable,
)
from shared.model.routes import Continuation, OnStreamFailure, Route, RouteTable, RouteTarget, Upstream
from tests.support.core import captured_logs
from worker.upstream.chain import LAST_WORDS_S, ProviderTarget, Routes
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import Vectors

T = TypeVar("T")

FIRST_TOKEN_S = 20.0
GAP_S = 5.0
TOTAL_S = 1000.0
STOP = Chunk(finished=((0, "stop"),))
USAGE = Chunk(usage={"prompt_tokens": 1, "completion_tokens": 1})
ROLE = Chunk()
VECTORS = Vectors(bytes(8), 2)


def token(text: str = "a", **fields: Any) -> Chunk:
    return Chunk(deltas=({"content": text, **fields},))


class StubProvider:
    """Act as a provider that says each chunk when the test sends it. An exception is raised, None is the end."""

    name = "mock"

    def __init__(self, *said: Chunk | Exception | None) -> None:
        self._said: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self.requests: list[Mapping[str, Any]] = []
        self.asked = asyncio.Event()
        self.waiting = asyncio.Event()
        self.closed = asyncio.Event()
        for each in said:
            self.say(each)

    def say(self, chunk: Chunk | Exception | None) -> None:
        self._said.put_nowait(chunk)

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        self.asked.set()
        self.requests.append(request)
        try:
            async with aclosing(self._chunks()) as chunks:
                yield chunks
        finally:
            self.closed.set()

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        while True:
            if self._said.empty():
                self.waiting.set()
            said = await self._said.get()
            self.waiting.clear()
            if said is None:
                return
            if isinstance(said, Exception):
                raise said
            yield said

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        self.asked.set()
        try:
            if self._said.empty():
                self.waiting.set()
            said = await self._said.get()
            if isinstance(said, Exception):
                raise said
            return VECTORS
        finally:
            self.closed.set()

    async def models(self) -> list[str]:
        return ["one", "two"]

    async def close(self) -> None:
        self.closed.set()


class Unconnected(StubProvider):
    """Wait for a connection without end: no stream begins."""

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
            yield self._chunks()
        finally:
            self.closed.set()


def target(provider: StubProvider) -> ProviderTarget:
    return ProviderTarget(provider, first_token_s=FIRST_TOKEN_S, gap_s=GAP_S)


def asking(
    provider: StubProvider, *, n: int = 1, total_s: float = TOTAL_S
) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
    return target(provider).stream({"model": "m", "n": n}, total_s=total_s)


async def read(provider: StubProvider, *, n: int = 1, total_s: float = TOTAL_S) -> list[Chunk]:
    async with asking(provider, n=n, total_s=total_s) as chunks:
        return [chunk async for chunk in chunks]


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the event loop's clock forward, at once."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return forward


async def let_timers_fire() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def ending(reading: asyncio.Task[T]) -> T:
    """Return the result, which must be there now."""
    await let_timers_fire()
    assert reading.done()
    return await reading


async def test_chunks_come_in_order_and_the_upstream_is_closed_after_them() -> None:
    provider = StubProvider(ROLE, token("a"), token("b"), STOP, USAGE, None)
    assert await read(provider) == [token("a"), token("b"), STOP, USAGE]
    assert provider.closed.is_set()


async def test_a_chunk_may_say_everything_at_once() -> None:
    whole = Chunk(deltas=({"content": "a"},), finished=((0, "stop"),), usage={"prompt_tokens": 1})
    assert await read(StubProvider(whole, None)) == [whole]


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
async def test_what_is_no_token_does_not_end_a_silence(empty: Chunk, pass_time: Callable[[float], None]) -> None:
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


async def test_nobody_watches_a_stream_that_was_left(pass_time: Callable[[float], None]) -> None:
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


async def test_a_target_asks_for_the_model_by_the_name_that_its_provider_knows() -> None:
    provider = StubProvider(token("a"), STOP, None)
    renamed = ProviderTarget(provider, first_token_s=FIRST_TOKEN_S, gap_s=GAP_S, model="gpt-a-eu")
    async with renamed.stream({"model": "gpt-a"}, total_s=TOTAL_S) as chunks:
        async for _ in chunks:
            pass

    assert provider.requests == [{"model": "gpt-a-eu"}]
    assert (renamed.model("gpt-a"), target(provider).model("gpt-a")) == ("gpt-a-eu", "gpt-a")


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


ONE, TWO = RouteTarget("one", 1, 1), RouteTarget("two", 2, 2, model="b-eu")
UPSTREAMS = {
    "one": Upstream("one", "http://one.invalid"),
    "two": Upstream("two", "http://two.invalid", continuation=Continuation.PREFIX),
}


def to(*targets: RouteTarget) -> Route:
    """Build a route with this chain."""
    return Route(targets, OnStreamFailure.CONTINUE, max_attempts=3)


def routes_of(**routes: Route) -> Routes:
    """Build these routes, with a provider for each upstream."""
    return Routes(RouteTable(routes, UPSTREAMS), {name: StubProvider() for name in UPSTREAMS})


async def test_a_chain_has_its_routes_targets_in_order() -> None:
    chain = routes_of(a=Route((ONE, TWO), OnStreamFailure.FAIL, 7)).chain("a")

    assert [each.model("a") for each in chain.targets] == ["a", "b-eu"]
    assert [each.continuation for each in chain.targets] == [Continuation.NONE, Continuation.PREFIX]
    assert (chain.on_stream_failure, chain.max_attempts) == (OnStreamFailure.FAIL, 7)


async def test_a_model_that_no_route_serves_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match=r"'c'. The models are: a, b\.") as missing:
        routes_of(a=to(ONE), b=to(TWO)).chain("c")
    assert missing.value.param == "model"


async def test_closing_the_routes_closes_the_providers() -> None:
    provider = StubProvider()
    await Routes(RouteTable({"*": to(ONE)}, UPSTREAMS), {"one": provider}).close()
    assert provider.closed.is_set()


# Embeddings.


async def embed(provider: StubProvider, *, total_s: float = TOTAL_S) -> Vectors:
    return await target(provider).embed({"input": ["a"]}, total_s=total_s)


async def test_vectors_are_passed_on_as_they_come() -> None:
    assert await embed(StubProvider(token())) is VECTORS


async def test_a_provider_that_sends_no_vectors_for_too_long_is_told_so(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    embedding = asyncio.create_task(embed(provider))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S)
    with pytest.raises(ProviderTimeout, match="sent no embeddings for 20 s"):
        await ending(embedding)
    assert provider.closed.is_set()


async def test_a_job_whose_time_is_over_first_is_not_its_providers_fault(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    embedding = asyncio.create_task(embed(provider, total_s=FIRST_TOKEN_S / 2))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S / 2)
    with pytest.raises(DeadlinePassed):
        await ending(embedding)


async def test_a_providers_own_time_out_and_other_errors_are_passed_on() -> None:
    for error in (ProviderUnreachable("Gone."), TimeoutError("a defect")):
        with pytest.raises(type(error)) as caught:
            await embed(StubProvider(error))
        assert caught.value is error


class Chats:
    """Act as a provider that can't embed."""

    name = "chats"

    def stream(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        raise NotImplementedError

    async def models(self) -> list[str]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def test_a_provider_without_embeddings_refuses_them_with_its_name_and_its_models() -> None:
    chats = ProviderTarget(Chats(), first_token_s=FIRST_TOKEN_S, gap_s=GAP_S, model="gpt-x")
    with pytest.raises(ProviderUnable, match=r"^The provider chats has no embeddings, so its model gpt-x can't") as no:
        await chats.embed({"model": "m", "input": ["a"]}, total_s=TOTAL_S)

    assert (no.value.code, no.value.param, no.value.retryable) == ("model_not_found", "model", False)
