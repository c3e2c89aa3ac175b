"""Bound the input of clients in uvicorn's HTTP protocol, whether they have a key or not.

Bounded are connections, each client address's connections, heads, requests in advance, slow bodies and bodies that come
after the answer. uvicorn bounds none of these. Not here: the size of a body (bodies.py), and the hosts that a head may
name (head_check.py).
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.http.old_http import UnchunkedTransport
from shared.model.bounds import HEAD_BYTES, PIPELINED, UNREAD_BODY_BYTES

log = structlog.get_logger()

UNREAD_BODY_S: Final = 2.0
"""How long a body may still come after its request was answered, in seconds."""

HALF_CLOSED: Final = "tailrace.half_closed"
"""Set in a request's scope when its client has closed its side: it has left, or only sends nothing more."""

PROBES_S: Final = (0.0, 0.2, 1.0)
"""Seconds until something is sent to such a client; the second time, a client that has left is detected."""

# Log free room only at this share of the bound: near it, each change of the count would be logged.
_ROOM_AGAIN = 0.9
_CLOSING = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + _CLOSING
_BODY_TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _CLOSING
# `: ` and the end of the line.
_HEADER_EXTRA = 4


@dataclass
class Room:
    """Bound a server's connections: `most` in all, `per_address` of one client address that is not a proxy's."""

    most: int
    per_address: int
    proxies: frozenset[str] = frozenset()
    _addresses: Counter[str] = field(default_factory=Counter)
    _full: bool = False

    def enter(self, address: str, connections: int) -> bool:
        """Count a connection in, the server's `connections`th; return whether there is room for it.

        A full server and a full address are logged once, until there is room again.
        """
        self._addresses[address] += 1
        if connections > self.most:
            if not self._full:
                log.warning("gateway.full", connections=self.most)
                self._full = True
            return False
        count = self._addresses[address]
        if count <= self.per_address or address in self.proxies:
            return True
        if count == self.per_address + 1:
            log.warning("gateway.address_full", address=address, connections=self.per_address)
        return False

    def leave(self, address: str, connections: int) -> None:
        """Count a connection out, after which the server has `connections`."""
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
        if self._full and connections <= _ROOM_AGAIN * self.most:
            log.info("gateway.room_again", connections=connections)
            self._full = False


class BoundedHttp(HttpToolsProtocol):
    """Serve one connection. A head over `HEAD_BYTES` is answered 431 (RFC 6585 §5), a body that is too slow 408."""

    # Slots, apart from uvicorn's attributes: an object with over thirty has a dictionary that costs 1.5 KiB a reader.
    __slots__ = (
        "_address",
        "_body_bytes",
        "_checked_bytes",
        "_half_closed",
        "_head_bytes",
        "_in_body",
        "_in_head",
        "_raw_bytes",
        "_room",
        "_seen_in_head",
        "_served",
        "_unread_bytes",
    )

    def __init__(self, *args: Any, room: Room, **options: Any) -> None:
        super().__init__(*args, **options)
        self._room = room

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's is narrower
        """Count the connection in, or break it off."""
        self._head_bytes, self._raw_bytes = 0, 0
        self._in_head, self._seen_in_head = True, False
        self._in_body, self._body_bytes, self._unread_bytes = False, 0, 0
        self._checked_bytes: int | None = None
        self._served: RequestResponseCycle | None = None
        self._half_closed = False
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if not self._room.enter(self._address, len(self.connections)):
            # Without an answer: a 503 would close an EventSource for good, after a fault it reconnects.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that is served; uvicorn ends only the latest one, which may be one in advance."""
        super().connection_lost(exc)
        self._room.leave(self._address, len(self.connections))
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """Hold a connection open after its client has sent everything, if it waits for an answer.

        A client that has left looks the same, until something is sent to it.
        """
        cycle = self._served
        if cycle is None or cycle.response_complete or self._in_head or self._in_body:
            return False
        if not cycle.response_started and self.scope["http_version"] == "1.0":
            # Nothing can be sent ahead of the answer that would distinguish a proxy's closing from a half-close.
            return False
        self._half_closed = True
        cycle.scope[HALF_CLOSED] = True  # type: ignore[typeddict-unknown-key]  # a server may add its own
        cycle.message_event.set()
        for after_s in PROBES_S:
            self.loop.call_later(after_s, self._probe, cycle)
        return True

    def _probe(self, cycle: RequestResponseCycle) -> None:
        """Send bytes without effect: a closed connection answers with a reset, which the next write finds."""
        if self._served is cycle and not (cycle.response_started or self.transport.is_closing()):
            self.transport.write(_CONTINUE)

    def check(self, min_body_bytes: float) -> None:
        """Close the connection if nothing, or too little, has come since the last check.

        A connection that waits for no answer is to finish its head between two checks. A body is to grow by
        `min_body_bytes` between them.
        """
        if self._in_body:
            self._check_body(min_body_bytes)
        elif self._in_head and (self._served is None or self._served.response_complete):
            if self._seen_in_head:
                self.transport.close()
            self._seen_in_head = True

    def _check_body(self, min_body_bytes: float) -> None:
        # A body that the application has not read yet is not slow.
        if self.flow.read_paused or self.cycle.response_complete:
            self._checked_bytes = None
        elif self._checked_bytes is None or self._body_bytes - self._checked_bytes >= min_body_bytes:
            self._checked_bytes = self._body_bytes
        else:
            self._refuse(_BODY_TOO_SLOW if not self.cycle.response_started else b"")

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and bound a head in which a line or header has no end."""
        in_head = self._in_head
        super().data_received(data)
        # A line that has not ended has not reached a callback yet. Bytes before a head may be the end of a large body.
        if in_head and self._in_head:
            self._raw_bytes += len(data)
            self._bound_head(self._raw_bytes)

    def on_message_begin(self) -> None:
        """Begin a request's head."""
        self._in_head, self._head_bytes, self._raw_bytes = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a piece of the address."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._head_bytes += len(name) + len(value) + _HEADER_EXTRA
        if self._bound_head(self._head_bytes):
            raise ConnectionAbortedError("The head is too large.")  # httptools stops here
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head and begin the body, which may be empty."""
        self._in_head = self._seen_in_head = False
        self._in_body, self._body_bytes, self._unread_bytes, self._checked_bytes = True, 0, 0, None
        super().on_headers_complete()
        if not self.pipeline:
            self._served = self.cycle
        if self.scope["http_version"] == "1.0":
            self.cycle.transport = UnchunkedTransport(self.cycle.transport)  # type: ignore[assignment]  # it is one
        if len(self.pipeline) > PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError("Too many requests in advance.")  # httptools stops here

    def on_body(self, body: bytes) -> None:
        """Count a piece of the body."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > UNREAD_BODY_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request that was sent in advance; bound the time for a body that is not complete."""
        if self._in_body and not self.pipeline:
            self.loop.call_later(UNREAD_BODY_S, self._close_unread, self.cycle)
        if self.pipeline:
            self._served = self.pipeline[-1][0]
        elif self._half_closed:
            self.transport.close()  # no other request can come
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, unless another answer has closed the connection."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _close_unread(self, cycle: RequestResponseCycle) -> None:
        if self._in_body and self.cycle is cycle:
            self.transport.close()

    def _bound_head(self, size: int) -> bool:
        if size <= HEAD_BYTES or self.transport.is_closing():
            return False
        self._refuse(_HEAD_TOO_LARGE)
        return True

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()
