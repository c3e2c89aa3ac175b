"""A provider that a test controls chunk by chunk: in the worker's own process, or over HTTP.

`ControlledProvider` is an ordinary provider. `controlled_upstream` serves one to workers that are processes of their
own. Each request is a `Call`, in which the test decides the next chunk; nothing here takes time. Not here: scripts
(tests/support/upstream).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from shared.model.errors import ProviderRefused
from tests.support.core import Watched
from worker.upstream.providers.scripted import embed
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.vectors import Vectors, read_vectors

MODEL = "mock"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def chunk_of(delta: Any, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """Return a chat completion chunk with one choice."""
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


class Call:
    """One request, as the provider sees it, and its answer. A chunk is taken as soon as the reader asks for it."""

    def __init__(self, request: Mapping[str, Any], changed: Watched, *, embeds: bool = False) -> None:
        self.request = request
        self.embeds = embeds
        """Vectors are asked for, and no text."""
        self.model: str = request["model"]
        self.pulled = 0
        """How many chunks were taken."""
        self.closed = False
        """The other side is not interested any more, or the answer has ended."""
        self._said: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
        self._changed = changed

    def say(self, *texts: str) -> None:
        """One token for each text."""
        for text in texts:
            self.send(chunk_of({"content": text}))

    def end(self, reason: str = "stop", usage: Mapping[str, Any] | None = None) -> None:
        """The answer is whole."""
        self.send(chunk_of({}, reason))
        if usage is not None:
            self.send({"choices": [], "usage": usage})
        self.stop()

    def embed(self) -> None:
        """The vectors of the inputs, as the scripted provider makes them."""
        self.send(embed(self.request))

    def send(self, chunk: dict[str, Any]) -> None:
        """Send this chunk unchecked."""
        self._said.put_nowait(chunk)

    def fail(self, error: Exception) -> None:
        """Raised in the provider; not over HTTP."""
        self._said.put_nowait(error)

    def stop(self) -> None:
        """The end of the stream, without a word."""
        self._said.put_nowait(None)

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks until the end."""
        while (said := await self._said.get()) is not None:
            if isinstance(said, Exception):
                raise said
            self.pulled += 1
            yield said

    def close(self) -> None:
        """Note that the reader asks for no more."""
        self.closed = True
        self._changed.change()

    async def until_closed(self) -> None:
        """Wait for the end of interest."""
        await self._changed.until(lambda: self.closed)


class ControlledProvider:
    """The provider. `on_call` gets each request before its first chunk is asked for."""

    name = "mock"

    def __init__(self, on_call: Callable[[Call], None] = lambda _: None) -> None:
        self.calls: list[Call] = []
        self._on_call = on_call
        self._changed = Watched()

    @property
    def running(self) -> list[str]:
        """Return the models of the requests that are being answered."""
        return [call.model for call in self.calls if not call.closed]

    async def call(self, number: int = 0) -> Call:
        """Wait for the request of this number, and return it."""
        await self.until(lambda: len(self.calls) > number)
        return self.calls[number]

    async def call_for(self, model: str) -> Call:
        """Wait for the first request for this model, and return it."""
        await self.until(lambda: any(call.model == model for call in self.calls))
        return next(call for call in self.calls if call.model == model)

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until it is so; checks again whenever a request comes or ends."""
        await self._changed.until(so)

    @asynccontextmanager
    async def answering(
        self, request: Mapping[str, Any], *, embeds: bool = False
    ) -> AsyncIterator[AsyncGenerator[dict[str, Any], None]]:
        """One request's chunks, as they are over HTTP."""
        call = Call(request, self._changed, embeds=embeds)
        self.calls.append(call)
        self._on_call(call)
        self._changed.change()
        try:
            async with aclosing(call.chunks()) as chunks:
                yield chunks
        finally:
            call.close()

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        """One request's chunks."""
        async with self.answering(request) as chunks, aclosing(_read(chunks)) as read:
            yield read

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Return one request's vectors: the first item of the call is the whole answer."""
        async with self.answering(request, embeds=True) as chunks:
            return read_vectors(await anext(chunks), len(request["input"]))

    async def models(self) -> list[str]:
        """One, though any name will do."""
        return [MODEL]

    async def close(self) -> None:
        """Nothing to give back."""


async def _read(chunks: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[Chunk, None]:
    reader = ChunkReader("mock", lambda error: ProviderRefused(str(error)))
    async for chunk in chunks:
        yield reader.read(chunk)
    for rest in reader.end():
        yield rest


@asynccontextmanager
async def controlled_upstream(
    on_call: Callable[[Call], None] = lambda _: None,
) -> AsyncIterator[tuple[ControlledProvider, str]]:
    """Serve a `ControlledProvider` provider behind an OpenAI-compatible address, which is its second half."""
    provider = ControlledProvider(on_call)
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(provider, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield provider, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(provider: ControlledProvider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # it has changed its mind
        line, *lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines if each)
        if line.startswith("get"):
            body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        answer = asyncio.create_task(_answer(provider, request, writer))
        gone = asyncio.create_task(reader.read())
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)
    finally:
        writer.close()


async def _answer(provider: ControlledProvider, request: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(_STREAM_HEAD)
    async with provider.answering(request) as chunks:
        async for chunk in chunks:
            writer.write(b"data: %b\n\n" % json.dumps(chunk).encode())
        writer.write(b"data: [DONE]\n\n")
