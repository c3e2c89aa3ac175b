"""uvicorn's HTTP protocol with bounds on what comes from anybody, key or not: connections, heads, requests in advance.

uvicorn takes any number of connections, waits for a request's end for ever, httptools collects its line and headers for
as long as they come, and each request that is sent before the last one's answer waits in a list. Above: app.py. Below:
uvicorn. Bodies are bounded where they are read (api/bodies.py).
"""

import asyncio
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shared.bounds import HEAD_BYTES, PIPELINED

log = structlog.get_logger()

# A room that was full has room again when so much of it is taken: at the limit, each one who goes and comes would tell.
_ROOM_AGAIN = 0.9
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Room:
    """How many connections a server may have. It tells once that there is no room, and once that there is again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._full = False

    def holds(self, connections: int) -> bool:
        """Whether there is room for so many."""
        if connections <= self._most:
            return True
        if not self._full:
            log.warning("gateway.full", connections=self._most)
            self._full = True
        return False

    def left(self, connections: int) -> None:
        """Somebody went; so many are left."""
        if self._full and connections <= _ROOM_AGAIN * self._most:
            log.info("gateway.room_again", connections=connections)
            self._full = False


class BoundedHttp(HttpToolsProtocol):
    """One connection; a head over `HEAD_BYTES` is answered 431 (RFC 6585 §5) and ends it."""

    # Apart from the attributes of uvicorn's: an object with over thirty has a dictionary that costs 1.5 KiB a reader.
    __slots__ = ("_head_bytes", "_in_head", "_room", "_seen_in_head", "_served")

    def __init__(self, *args: Any, room: Room, **options: Any) -> None:
        super().__init__(*args, **options)
        self._room = room

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's is narrower
        """Somebody came."""
        self._head_bytes, self._in_head, self._seen_in_head = 0, True, False
        self._served: RequestResponseCycle | None = None
        super().connection_made(transport)
        if not self._room.holds(len(self.connections)):
            # Without an answer: a 503 would close an EventSource for good, a fault lets it come back.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; uvicorn tells only the request that came last, which may be one in advance."""
        super().connection_lost(exc)
        self._room.left(len(self.connections))
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    def let_go_if_silent(self) -> None:
        """Let this connection go if it was in the same head at the last call, too, and waits for no answer."""
        if not self._in_head or (self._served is not None and not self._served.response_complete):
            return
        if self._seen_in_head:
            self.transport.close()
        self._seen_in_head = True

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        in_head = self._in_head
        super().data_received(data)
        # What a head begins in may be the end of a large body: it is not counted.
        if in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_REFUSAL)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its body follows, or nothing."""
        self._in_head = self._seen_in_head = False
        super().on_headers_complete()
        if not self.pipeline:
            self._served = self.cycle
        if len(self.pipeline) > PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError("Too many requests in advance.")  # httptools stops here

    def on_response_complete(self) -> None:
        """The next one that was sent in advance is served."""
        if self.pipeline:
            self._served = self.pipeline[-1][0]
        super().on_response_complete()
