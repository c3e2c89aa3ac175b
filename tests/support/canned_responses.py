"""A gateway that is only a socket with prepared answers, for the client's tests.

It plays one answer for each connection to any request, and can break off at places at which a real one would not. Not
here: a real gateway's behaviour.
"""

import json
import socket
import threading
from collections.abc import Sequence

from shared.model.events import encode_data

JOB = "job_" + "0" * 26
BOUND_S = 5.0
_CLOSE = "Connection: close"  # each answer has a connection of its own


def answer(status: int, body: object = b"", *headers: str, kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Prepared",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        _CLOSE,
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def problem(status: int, detail: str, *headers: str, code: str = "prepared") -> bytes:
    """Return an error, as problem+json."""
    return answer(status, {"detail": detail, "code": code}, *headers, kind="application/problem+json")


def stream(*frames: bytes, ends: bool = False) -> bytes:
    """Return an event stream that breaks off, unless it `ends`."""
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", _CLOSE, "", ""]
    head = "\r\n".join(lines).encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames) + (b"0\r\n\r\n" if ends else b"")


def sent(name: str, event_id: str, **data: object) -> bytes:
    """Return an event."""
    return b"event: %b\ndata: %b\nid: %b\n\n" % (name.encode(), encode_data(data), event_id.encode())


def delta(seq: int) -> bytes:
    """Event 1-`seq`, which says its own number."""
    return sent("delta", f"1-{seq}", content=str(seq))


END = sent("completed", "1-9")
FAREWELL = b"retry: 700\n\n"
LOST = b""
"""No answer: the connection is closed once the request is there."""


class CannedGateway:
    """Plays one answer for each connection, then closes it. `asked` are the requests: first line and headers."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(BOUND_S)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for each in self._answers:
            connected, _ = self._listener.accept()
            with connected:
                connected.settimeout(BOUND_S)
                head, _, body = self._until(connected, b"").partition(b"\r\n\r\n")
                text = head.decode()
                length = int(text.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
                while len(body) < length:
                    body += connected.recv(1 << 16)
                self.asked.append(text)
                connected.sendall(each)
        self._listener.close()  # from here on, connections are refused

    def _until(self, connected: socket.socket, data: bytes) -> bytes:
        while b"\r\n\r\n" not in data:
            data += connected.recv(1 << 16)
        return data

    def header(self, name: str) -> list[str]:
        """Return the value of this header in each request."""
        return [each.partition(f"{name}: ")[2].partition("\r\n")[0] for each in self.asked]

    def close(self) -> None:
        """Wait until all is played."""
        self._thread.join(BOUND_S)
        self._listener.close()
