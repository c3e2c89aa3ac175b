"""A writer of HTTP/1.1 answers to one socket: whole ones, streams in chunks, and connections that break off.

Not here: the contents of an answer (bodies.py, chat.py).
"""

import asyncio
import gzip
import json
import socket
import struct
from http import HTTPStatus

from tests.support.upstream.script import Answer, WireScript

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\nX-Request-Id: req_scripted\r\n\r\n"
)


class AnswerWriter:
    """Write answers to one socket."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writable = asyncio.Event()
        """The socket takes more."""
        self.writable.set()

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The addresses of the client and of this side."""
        return self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")

    def begin_stream(self) -> None:
        """Write the head of a stream."""
        self._transport.write(_STREAM_HEAD)

    def write(self, data: bytes) -> None:
        """Write a chunk of the body, unless it is empty."""
        if data:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_body(self) -> None:
        """Write the end of the body."""
        self._transport.write(b"0\r\n\r\n")

    def send(self, answer: Answer) -> None:
        """Write a whole answer."""
        is_text = isinstance(answer.body, str)
        body = answer.body.encode() if is_text else json.dumps(answer.body).encode()
        headers = {"Content-Type": "text/plain" if is_text else "application/json", **answer.headers}
        if answer.gzip:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def break_off(self, script: WireScript) -> None:
        """End the connection with a FIN if the fault is a `cut`, else with a RST."""
        if script.fault == "cut":
            self._transport.close()
        else:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unheard Of"
