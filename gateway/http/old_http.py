"""Send answers to HTTP/1.0 clients, which know no chunks (RFC 9112 §7.1): a body goes out as it is.

uvicorn writes a head, then one chunk with each call. Not here: HTTP/1.1 (protocol.py).
"""

import asyncio
import socket
import struct
from typing import Any

_CHUNKED = b"transfer-encoding: chunked\r\n"
_LINE_END = b"\r\n"
_LAST = b"0\r\n\r\n"
# Close with a reset, and without waiting.
_RESET = struct.pack("ii", 1, 0)


class UnchunkedTransport:
    """Remove the chunks of an answer, which ends with its connection: one that was cut off ends in a reset."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head_sent = False
        self._chunked = False
        self._complete = False

    def write(self, data: bytes) -> None:
        """Send the head, or the content of a chunk."""
        if not self._head_sent:
            self._head_sent = True
            self._chunked = _CHUNKED in data
            data = data.replace(_CHUNKED, b"", 1)
        elif self._chunked:
            self._complete = data.endswith(_LAST)
            line, _, rest = data.partition(_LINE_END)
            data = rest[: int(line, 16)]
        self._transport.write(data)

    def close(self) -> None:
        """Close in good order after a whole answer, else with a reset: a cut-off answer must not look whole."""
        if self._chunked and not self._complete:
            connection: socket.socket = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
