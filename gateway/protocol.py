"""uvicorn's HTTP protocol with bounds on what comes from anybody, key or not: connections, heads, requests in advance.

uvicorn takes any number of connections, httptools collects a request's line and headers for as long as they come, and
each request that is sent before the last one's answer waits in a list. Above: app.py. Below: uvicorn. Bodies are
bounded where they are read (api/bodies.py).
"""

import asyncio

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shared.bounds import CONNECTIONS, HEAD_BYTES, PIPELINED

log = structlog.get_logger()

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """One connection; a head over `HEAD_BYTES` is answered 431 (RFC 6585 §5) and ends it."""

    # Apart from the attributes of uvicorn's: an object with over thirty has a dictionary that costs 1.5 KiB a reader.
    __slots__ = ("_head_bytes", "_in_head", "_served")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's is narrower
        """Somebody came."""
        self._head_bytes, self._in_head = 0, True
        self._served: RequestResponseCycle | None = None
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            # Without an answer: a 503 would close an EventSource for good, a fault lets it come back.
            log.warning("gateway.full", connections=CONNECTIONS)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; uvicorn tells only the request that came last, which may be one in advance."""
        super().connection_lost(exc)
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

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
        self._in_head = False
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
