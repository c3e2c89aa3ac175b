"""Send an event stream: take bytes from a source and send them until the end, a break or a departure.

The response is a subclass of sse-starlette's with another `__call__`: one pending receive, joined sends, no ping task,
no process-global shutdown state. The base class costs twice the memory and time per reader (facts). The hub's timer
does heartbeats and finds frozen sockets. Not here: the meaning of the bytes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from sse_starlette import EventSourceResponse
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.http.protocol import HALF_CLOSED, PROBES_S
from gateway.streams.reader import StreamBroken
from shared.model.bounds import PIECE_BYTES
from shared.model.errors import JobNotFound
from shared.process.clock import Clock

STREAM_HEADERS: Mapping[str, str] = {
    # Exactly this: no charset (wire contract: some clients compare).
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}

# A broken EventSource reconnects after this long, spread out so that a deploy makes no herd.
_RETRY_MS = (500, 3000)


class Source(Protocol):
    """Provide the bytes of an event stream: see `reader.Reader.chunk`."""

    async def chunk(self) -> bytes:
        """Return the next bytes, empty at the end. Raises `StreamBroken`."""
        ...


class Recipient(Protocol):
    """The client of a stream, as the hub's timer sees it: see `reader.Reader`."""

    gone: bool
    sending_since: float | None
    timeout: asyncio.Timeout | None

    def leave(self) -> None:
        """End the stream, because the client has disconnected."""

    def send_heartbeat(self) -> None:
        """Make the next chunk a heartbeat, if nothing else is pending."""


@asynccontextmanager
async def watching(scope: Scope, receive: Receive, reader: Recipient) -> AsyncIterator[None]:
    """Make the reader leave when its client disconnects, as long as the context is open."""

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while (await receive())["type"] != "http.disconnect":
            if scope.get(HALF_CLOSED):
                # Heartbeats fail if the client has left; a client that only sends nothing more ignores them.
                for after_s in PROBES_S:
                    loop.call_later(after_s, reader.send_heartbeat)
        reader.leave()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class EventStream(EventSourceResponse):
    """Stream to one reader.

    `first` goes out with the headers. With `announce_break`, a break is announced by a `retry:` line, which only native
    readers understand.
    """

    def __init__(
        self,
        source: Source,
        reader: Recipient,
        clock: Clock,
        *,
        headers: Mapping[str, str],
        first: bytes = b"",
        announce_break: bool = False,
    ) -> None:
        # Deliberately not the base class's: it would make a task group, a ping and a lock for each reader.
        self.status_code = 200
        self.background = None
        self._source = source
        self._reader = reader
        self._clock = clock
        self._first = first
        self._announce_break = announce_break
        self.raw_headers = [*_STREAM_HEADERS, *encode_headers(headers)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client and watch for its departure."""
        async with watching(scope, receive, self._reader):
            await self.stream(send)

    async def stream(self, send: Send) -> None:
        """Send until the end. A break returns in mid-body, so that every client sees a fault and resumes."""
        try:
            async with asyncio.timeout(None) as self._reader.timeout:
                await self._stream(send)
        except TimeoutError:
            # The hub's timer found a send that did not return: the reader is frozen.
            return

    async def _stream(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if self._first:
                await self._send_body(send, self._first)
            while data := await self._source.chunk():
                await self._send_body(send, data)
            if not self._reader.gone:
                await self._send_body(send, b"", more=False)
        except (StreamBroken, JobNotFound):
            if self._announce_break and not self._reader.gone:
                await self._send_body(send, _retry())

    async def _send_body(self, send: Send, data: bytes, *, more: bool = True) -> None:
        # In pieces: the send time-out is for a reader that takes nothing, not for a slow reader of much data.
        last = max(len(data) - 1, 0) // PIECE_BYTES * PIECE_BYTES
        for start in range(0, last, PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": data[last:], "more_body": more})

    async def _send(self, send: Send, message: Message) -> None:
        self._reader.sending_since = self._clock.monotonic()
        try:
            await send(message)
        finally:
            self._reader.sending_since = None


class ReconnectResponse(Response):
    """Break a native stream before it begins, because this process is shutting down.

    Not a 503: any status but 200 closes an `EventSource` for good. After a broken 200 it reconnects (WHATWG HTML
    §9.2.3).
    """

    def __init__(self) -> None:
        self.background = None
        self.status_code = 200
        self.raw_headers = _STREAM_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the time to reconnect after, and break."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": _retry(), "more_body": True})


def _retry() -> bytes:
    return b"retry: %d\n\n" % random.randint(*_RETRY_MS)


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Encode headers in ASGI's form."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


_STREAM_HEADERS = encode_headers(STREAM_HEADERS)  # once: a reader keeps its headers for as long as it stays
