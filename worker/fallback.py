"""The chain of a route: which provider answers, and how long it may be silent.

Above: attempt.py, which takes the chain of its job's model. Below: the providers, which know no time-outs. Here an
end without a finish reason becomes an error, for every provider alike (design.md, invariant 6). Not here: retries,
which are attempts.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from shared.errors import AttemptFailed, DeadlinePassed, ModelNotFound, ProviderTimeout, ProviderTruncated
from worker.providers.base import Chunk, Provider

LAST_WORDS_S = 2.0
"""After the last finish reason, usage and the end may take this long; the answer is whole without them."""

_NOBODY_WAITS = float("inf")


class Chain:
    """The ordered providers of a route: exactly one, until fallbacks are settings.

    `first_token_s` and `gap_s` (seconds) bound the silence before the first delta and between two. Their clock runs
    only while the caller waits for a chunk. Only a delta ends a silence: a provider that keeps its stream alive with
    empty chunks and says nothing has stalled, for whoever reads.
    """

    def __init__(self, providers: Sequence[Provider], *, first_token_s: float, gap_s: float) -> None:
        (self._provider,) = providers
        self._first_token_s = first_token_s
        self._gap_s = gap_s

    @property
    def name(self) -> str:
        """The name of the provider in use."""
        return self._provider.name

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any], *, total_s: float) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Ask for an answer. It may take `total_s` seconds in all, the caller's own work in the context included.

        The chunks end when the answer is whole; none is empty. Leaving the context closes the upstream's socket.

        Raises:
            DeadlinePassed: `total_s` went by.
            ProviderTimeout: the provider was silent for too long.
            ProviderTruncated: its stream ended without a finish reason.
            AttemptFailed: whatever else the provider raises.
        """
        deadline = asyncio.timeout(total_s)
        silence = _Silence(deadline, min(self._first_token_s, self._gap_s))
        try:
            async with deadline, aclosing(self._chunks(request, silence)) as chunks:
                yield chunks
        except TimeoutError:
            if not deadline.expired():
                raise
            if silence.too_long:
                raise ProviderTimeout(self._silent(silence)) from None
            raise DeadlinePassed(f"The answer was not whole after {total_s:g} s.") from None
        finally:
            silence.stop_watching()

    async def models(self) -> list[str]:
        """The names of the models that the chain's provider serves."""
        return await self._provider.models()

    async def close(self) -> None:
        """Close the providers' connections."""
        await self._provider.close()

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
                    async with aclosing(_last_words(chunks)) as rest:
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


async def _last_words(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """What comes after the last finish reason: usage, and the deltas of those who finish before they end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LAST_WORDS_S
    while True:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(chunks)
        except (StopAsyncIteration, TimeoutError, AttemptFailed):
            return  # however it ends, the answer was whole before
        if chunk.deltas or chunk.finished or chunk.usage:
            yield chunk
        if chunk.deltas:
            until = loop.time() + LAST_WORDS_S


class _Silence:
    """Measures how long the caller has been waiting for a token, and lets the deadline pass when it is too long.

    One timer looks every now and then, since to set one for each token costs more than all the rest here.
    `look_s` is not over the shortest silence, so that no look comes late.
    """

    def __init__(self, deadline: asyncio.Timeout, look_s: float) -> None:
        self.too_long = False
        self.number = 0
        self._deadline = deadline
        self._look_s = look_s
        self._until = _NOBODY_WAITS
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(look_s, self._look)

    def begin(self, seconds: float) -> None:
        """The caller waits; it may take so long."""
        self.number += 1
        self._until = self._loop.time() + seconds

    def end(self) -> None:
        """It has what it waited for."""
        self._until = _NOBODY_WAITS

    def stop_watching(self) -> None:
        """Nobody will wait again."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._until:
            self.too_long = True
            self._deadline.reschedule(now)
        else:
            self._timer = self._loop.call_at(min(self._until, now + self._look_s), self._look)


class Routes:
    """Which chain serves a model: one serves all `models`, or whatever is asked for where none are named."""

    def __init__(self, chain: Chain, models: Collection[str] = ()) -> None:
        self._chain = chain
        self._models = models

    def chain(self, model: str) -> Chain:
        """The chain of this model.

        Raises:
            ModelNotFound: no route serves it.
        """
        if self._models and model not in self._models:
            served = ", ".join(self._models)
            raise ModelNotFound(f"No route serves the model {model[:100]!r}. There are: {served}.", param="model")
        return self._chain

    async def models(self) -> list[str]:
        """The names of the models; where none are named, whatever the provider tells. Raises as a provider does."""
        return list(self._models) or await self._chain.models()

    async def close(self) -> None:
        """Close the connections of all chains."""
        await self._chain.close()
