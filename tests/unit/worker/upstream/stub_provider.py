"""Act as a provider that says each chunk when the test sends it, and read it through a target.

Not here: a clock that a test moves (conftest.py).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, TypeVar

from worker.upstream.chain import ProviderTarget
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


async def let_timers_fire() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def ending(reading: asyncio.Task[T]) -> T:
    """Return the result, which must be there now."""
    await let_timers_fire()
    assert reading.done()
    return await reading
