"""uvicorn's HTTP protocol with a bound on what comes before a body: request line and headers.

httptools collects them for as long as they come, from anybody, key or not. Above: app.py. Below: uvicorn. Bodies are
bounded where they are read (api/bodies.py).
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """One connection; a head over `MAX_HEAD_BYTES` is answered 431 (RFC 6585 §5) and ends it."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        in_head = self._in_head
        super().data_received(data)
        # What a head begins in may be the end of a large body: it is not counted.
        if in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
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
