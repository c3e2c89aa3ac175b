"""An HTTP/1.1 client that keeps every byte and reads only on demand.

Other clients hide the subjects of these tests: the end of a body, its heartbeats, and a slow client that takes nothing
from its socket. One request for each connection; each wait is bounded by `TIMEOUT_S`.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shared.model.events import Event, decode_frame

TIMEOUT_S = 5.0
HEARTBEAT = b": hb\n"
_READ_BYTES = 64 * 1024
_EMPTY_STATUSES = (204, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. `raw_headers` are as they came; `headers` have lower-case names."""

    status: int
    raw_headers: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers by name."""
        return {name.lower(): value for name, value in self.raw_headers}

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Response:
    """A response that is being read. `complete` says, once it has ended, whether its end was a proper one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = b""
        self._text = b""
        self.status = 0
        self.raw_headers: list[tuple[str, str]] = []
        self.sends: list[bytes] = []
        """The body as it came: one element for each HTTP chunk."""
        self.heartbeats = 0
        self.complete: bool | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers by name, in lower case."""
        return {name.lower(): value for name, value in self.raw_headers}

    async def read_head(self) -> None:
        """Read the status line and the headers."""
        line, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(line.split(" ")[1])
        self.raw_headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in lines)]

    async def chunk(self) -> bytes:
        """Return the next HTTP chunk of the body; empty at its end, proper or not."""
        if self.complete is not None:
            return b""
        try:
            size = int(await self._until(b"\r\n"), 16)
            data = await self._exactly(size)
            await self._exactly(2)
        except (EOFError, ConnectionError):
            self.complete = False
            return b""
        if not size:
            self.complete = True
        else:
            self.sends.append(data)
        return data

    async def frame(self) -> bytes:
        """Read the next whole frame, blank line included; empty at the end. Heartbeats before it are counted."""
        while True:
            while self._text.startswith(HEARTBEAT):
                self._text = self._text.removeprefix(HEARTBEAT)
                self.heartbeats += 1
            frame, end, rest = self._text.partition(b"\n\n")
            if end:
                self._text = rest
                return frame + end
            if not (data := await self.chunk()):
                return b""
            self._text += data

    async def frames(self, count: int) -> list[bytes]:
        """Return the next so many frames."""
        return [await self.frame() for _ in range(count)]

    async def heartbeat(self) -> None:
        """Wait for the next heartbeat; there must be nothing else before it."""
        before = self.heartbeats
        while not self._text.startswith(HEARTBEAT):
            data = await self.chunk()
            assert data, "the stream ended"
            self._text += data
            assert HEARTBEAT.startswith(self._text[: len(HEARTBEAT)]), self._text
        self._text = self._text.removeprefix(HEARTBEAT)
        self.heartbeats = before + 1

    async def rest(self) -> bytes:
        """Return the body from here to its end, heartbeats included."""
        parts = [self._text]
        self._text = b""
        while data := await self.chunk():
            parts.append(data)
        return b"".join(parts)

    async def events(self) -> list[Event]:
        """Return the native events from here to the end."""
        events = []
        while frame := await self.frame():
            events.append(decode_frame(frame))
        return events

    async def whole(self) -> Answer:
        """Everything, as an answer."""
        headers = self.headers
        if self.status in _EMPTY_STATUSES:
            body = b""
        elif "content-length" in headers:
            body = await self._exactly(int(headers["content-length"]))
        else:
            body = await self.rest()
            assert self.complete, "the body was cut off"
        return Answer(self.status, self.raw_headers, body)

    def nothing_came(self) -> bool:
        """Return whether the server has sent nothing that was not read, not even headers."""
        if self._raw:
            return False
        try:
            return not self._sock.recv(1, socket.MSG_PEEK) and False
        except BlockingIOError:
            return True

    def close(self) -> None:
        """Close the connection: with a FIN, or with a RST if some bytes were not read."""
        self._sock.close()

    def reset(self) -> None:
        """Close the connection with a RST, even if all was read."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._raw:
            await self._fill()
        data, _, self._raw = self._raw.partition(mark)
        return data

    async def _exactly(self, size: int) -> bytes:
        while len(self._raw) < size:
            await self._fill()
        data, self._raw = self._raw[:size], self._raw[size:]
        return data

    async def _fill(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            data = await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)
        if not data:
            raise EOFError("The server closed the connection.")
        self._raw += data


class Client:
    """A caller of one gateway, with one API key."""

    def __init__(self, port: int, key: str | None = "sk-alice") -> None:
        self.port = port
        self._key = key

    def as_(self, key: str | None) -> "Client":
        """Return a client of the same port with another key, or with none."""
        return Client(self.port, key)

    async def send(
        self,
        method: str,
        target: str,
        *,
        json_body: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> Response:
        """Send a request. A body in parts goes out chunked, without a length. Close the response yourself."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if json_body is not None:
            body = json.dumps(json_body).encode()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, ("127.0.0.1", self.port))
                await loop.sock_sendall(sock, self._head(method, target, body, headers or {}))
                if isinstance(body, bytes):
                    await loop.sock_sendall(sock, body)
                elif body is not None:
                    for part in body:
                        await loop.sock_sendall(sock, b"%x\r\n%b\r\n" % (len(part), part))
                    await loop.sock_sendall(sock, b"0\r\n\r\n")
        except BaseException:
            sock.close()
            raise
        return Response(sock)

    def _head(
        self, method: str, target: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        if self._key is not None:
            lines.append(f"Authorization: Bearer {self._key}")
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            lines.append("Transfer-Encoding: chunked")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @asynccontextmanager
    async def stream(self, method: str, target: str, **options: Any) -> AsyncIterator[Response]:
        """Read a response's headers; leaving the context closes the connection. Options: see `send`."""
        response = await self.send(method, target, **options)
        try:
            await response.read_head()
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def calling(self, target: str, json_body: Any, **options: Any) -> AsyncIterator[Response]:
        """Send a `POST` with headers that may come late: read them yourself. Options: see `send`."""
        response = await self.send("POST", target, json_body=json_body, **options)
        try:
            yield response
        finally:
            response.close()

    async def request(self, method: str, target: str, **options: Any) -> Answer:
        """Send a request and read its whole answer. Options: see `send`."""
        async with self.stream(method, target, **options) as response:
            return await (response.whole() if method != "HEAD" else _without_body(response))

    async def get(self, target: str, **options: Any) -> Answer:
        """`GET`. Options: see `send`."""
        return await self.request("GET", target, **options)

    async def post(self, target: str, json_body: Any = None, **options: Any) -> Answer:
        """`POST`. Options: see `send`."""
        return await self.request("POST", target, json_body=json_body, **options)


async def _without_body(response: Response) -> Answer:
    return Answer(response.status, response.raw_headers, b"")
