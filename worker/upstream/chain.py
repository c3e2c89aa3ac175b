"""The chain of a route: which providers may answer, in which order, and how long each may be silent.

Providers have no time-outs of their own. Here an end without a finish reason becomes an error, for every provider
alike. Not here: the decision after a failure (worker/model/retry.py).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from shared.model.errors import AttemptFailed, DeadlinePassed, ProviderTimeout, ProviderTruncated, ProviderUnable
from shared.model.routes import Continuation, OnStreamFailure, RouteTable, RouteTarget
from worker.upstream.providers.base import EmbeddingProvider, Provider
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import Vectors

log = structlog.get_logger()

LAST_WORDS_S = 2.0
"""Usage and the end of the stream may follow the last finish reason for so long; the answer is whole without them."""

_NOBODY_WAITS = float("inf")
# So many rounds of the event loop bring a token from the socket to its reader.
_ROUNDS = 10


class ProviderTarget:
    """One provider of a chain, with the model it is asked for and its time-outs.

    `first_token_s` and `gap_s` (seconds) bound the silence before the first delta and between two. Their clock runs
    only while the caller waits for a chunk. Only a delta ends a silence: a provider that sends only empty chunks has
    stalled, as its readers see it. `total_s` bounds one attempt, if it is set.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        first_token_s: float,
        gap_s: float,
        total_s: float | None = None,
        model: str | None = None,
        continuation: Continuation = Continuation.NONE,
    ) -> None:
        self._provider = provider
        self._first_token_s = first_token_s
        self._gap_s = gap_s
        self._total_s = total_s
        self._model = model
        self.continuation = continuation
        """The way to request the rest of an answer from its provider."""

    @property
    def name(self) -> str:
        """Return the name of its provider."""
        return self._provider.name

    def model(self, asked: str) -> str:
        """Return the provider's name for the model that the caller named."""
        return self._model or asked

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any], *, total_s: float) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Request an answer to this request, which names the caller's model.

        The whole context may take `total_s` seconds, the caller's own work included, and at most the target's bound.

        The chunks end when the answer is whole; none is empty. Leaving the context closes the upstream's socket.

        Raises:
            DeadlinePassed: `total_s` went by.
            ProviderTimeout: the provider was silent for too long, or its attempt took longer than it may.
            ProviderTruncated: its stream ended without a finish reason.
            AttemptFailed: the provider raised another error.
        """
        own_bound_s = self._total_s if self._total_s is not None and self._total_s < total_s else None
        deadline = asyncio.timeout(total_s if own_bound_s is None else own_bound_s)
        asked = request if self._model is None else {**request, "model": self._model}
        silence = _Silence(deadline, min(self._first_token_s, self._gap_s))
        try:
            async with deadline, aclosing(self._chunks(asked, silence)) as chunks:
                yield chunks
        except TimeoutError:
            if not deadline.expired():
                raise
            if silence.too_long:
                raise ProviderTimeout(self._silent(silence)) from None
            if own_bound_s is not None:
                sentence = f"The provider {self.name} had not finished its answer after {own_bound_s:g} s."
                raise ProviderTimeout(sentence) from None
            raise DeadlinePassed(f"The answer was incomplete after {total_s:g} s.") from None
        finally:
            silence.stop_watching()

    async def embed(self, request: Mapping[str, Any], *, total_s: float) -> Vectors:
        """Request the vectors of a few inputs (see `Provider.embed`), of a job that has `total_s` seconds left.

        Raises:
            DeadlinePassed: `total_s` went by.
            ProviderTimeout: the provider was silent for too long.
            ProviderUnable: the provider has no embeddings.
            AttemptFailed: the provider raised another error.
        """
        asked = request if self._model is None else {**request, "model": self._model}
        provider = self._provider
        if not isinstance(provider, EmbeddingProvider):
            sentence = f"The provider {self.name} has no embeddings, so its model {asked.get('model')} can't embed."
            raise ProviderUnable(sentence)
        first_token_timeout = asyncio.timeout(min(total_s, self._first_token_s))
        try:
            async with first_token_timeout:
                return await provider.embed(asked)
        except TimeoutError:
            if not first_token_timeout.expired():
                raise
            if total_s > self._first_token_s:
                silent = f"The provider {self.name} sent no embeddings for {self._first_token_s:g} s."
                raise ProviderTimeout(silent) from None
            raise DeadlinePassed("The job's time-out passed before all inputs were embedded.") from None

    async def _chunks(self, request: Mapping[str, Any], silence: "_Silence") -> AsyncGenerator[Chunk, None]:
        choices = _choices(request)
        spoke: set[int] = set()
        finished: set[int] = set()
        silence.begin(self._first_token_s)
        async with self._provider.stream(request) as chunks:
            async for chunk in chunks:
                if chunk.deltas:
                    silence.end()
                    spoke.update([delta.get("index", 0) for delta in chunk.deltas])
                    yield chunk
                    silence.begin(self._gap_s)
                elif chunk.finished or chunk.usage:
                    yield chunk
                finished.update([index for index, _ in chunk.finished])
                if len(finished) >= choices:
                    silence.end()
                    async with aclosing(_last_words(chunks, self.name)) as rest:
                        async for chunk in rest:
                            yield chunk
                    return
        if not finished or spoke - finished:
            raise ProviderTruncated(f"The provider {self.name} ended its stream without a finish reason.")

    def _silent(self, silence: "_Silence") -> str:
        if silence.number == 1:
            return f"The provider {self.name} sent no token for {self._first_token_s:g} s."
        return f"The provider {self.name} sent no further token for {self._gap_s:g} s."


def _choices(request: Mapping[str, Any]) -> int:
    choices = request.get("n")
    return choices if isinstance(choices, int) and choices > 0 else 1


async def _last_words(chunks: AsyncIterator[Chunk], provider: str) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks after the last finish reason: usage, and deltas of providers that finish before they end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LAST_WORDS_S
    while True:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(chunks)
        except TimeoutError:
            # The answer is whole by its finish reason. Later text would contradict it, and is not read.
            log.warning("provider.left_open", provider=provider, after_s=LAST_WORDS_S)
            return
        except (StopAsyncIteration, AttemptFailed):
            return  # however it ends, the answer was whole before
        if chunk.deltas or chunk.finished or chunk.usage:
            yield chunk
        if chunk.deltas:
            until = loop.time() + LAST_WORDS_S


class _Silence:
    """Measure the caller's wait for a token, and make the deadline pass when it is too long.

    One timer checks at intervals, since one timer for each token costs more than all the rest here.
    `check_s` is not over the shortest silence, so that no check comes late.
    """

    def __init__(self, deadline: asyncio.Timeout, check_s: float) -> None:
        self.too_long = False
        self.number = 0
        self._deadline = deadline
        self._check_s = check_s
        self._until = _NOBODY_WAITS
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle = self._loop.call_later(check_s, self._check)

    def begin(self, seconds: float) -> None:
        """Begin a wait of the caller, which may take so long."""
        self.number += 1
        self._until = self._loop.time() + seconds

    def end(self) -> None:
        """End the wait: the caller has its token."""
        self._until = _NOBODY_WAITS

    def stop_watching(self) -> None:
        """Cancel the timer: no other wait follows."""
        self._timer.cancel()

    def _check(self, rounds: int = _ROUNDS) -> None:
        now = self._loop.time()
        if now < self._until:
            self._timer = self._loop.call_at(min(self._until, now + self._check_s), self._check)
        elif rounds:
            # This process may have been frozen: tokens that came meanwhile are read first.
            self._timer = self._loop.call_soon(self._check, rounds - 1)
        else:
            self.too_long = True
            self._deadline.reschedule(now)


@dataclass(frozen=True, slots=True)
class Chain:
    """Hold the targets of a route in order, its policy for a failed stream, and its number of attempts."""

    targets: Sequence[ProviderTarget]
    on_stream_failure: OnStreamFailure = OnStreamFailure.CONTINUE
    max_attempts: int = 1


class Routes:
    """Choose the chain that serves a model."""

    def __init__(self, table: RouteTable, providers: Mapping[str, Provider]) -> None:
        """`providers` are those that the table names."""
        self._table = table
        self._providers = providers

    def chain(self, model: str) -> Chain:
        """Return the chain of this model.

        Raises:
            ModelNotFound: no route serves it.
        """
        route = self._table.route(model)
        return Chain([self._target(target) for target in route.targets], route.on_stream_failure, route.max_attempts)

    def _target(self, target: RouteTarget) -> ProviderTarget:
        return ProviderTarget(
            self._providers[target.provider],
            first_token_s=target.first_token_s,
            gap_s=target.gap_s,
            total_s=target.total_s,
            model=target.model,
            continuation=self._table.upstreams[target.provider].continuation,
        )

    async def close(self) -> None:
        """Close the connections of all providers."""
        for provider in self._providers.values():
            await provider.close()
