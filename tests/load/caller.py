"""A client that costs little: HTTP/1.1 to one port on 127.0.0.1, over kept connections.

Not here: streams and their check, and loads (generator.py).
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

# uvicorn closes a connection that was idle for five seconds; one that is younger is safe to use.
_FRESH_S = 2.0


class Broken(Exception):
    """A call did not get the answer it needs."""


@dataclass
class Answer:
    """The answer as it came back. Times are `time.monotonic()`."""

    asked_at: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    chunks: int = 0
    """HTTP chunks of the body: how often the server sent."""
    first_at: float | None = None
    """When the body began."""
    ended_at: float | None = None

    def json(self) -> dict[str, Any]:
        """Decode the body."""
        body: dict[str, Any] = json.loads(b"".join(self.parts))
        return body


class _Connection(asyncio.Protocol):
    """One kept connection; one call at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._on_body: Callable[[bytes], None] | None = None
        self._whole: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0
        self.reusable = True

    async def ask(self, request: bytes, on_body: Callable[[bytes], None] | None) -> Answer:
        self._on_body = on_body
        self._whole = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.monotonic())
        self.transport.write(request)
        return await self._whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail("The connection ended before the answer did.")

    def on_status(self, _: bytes) -> None:
        assert self._answer is not None
        self._answer.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._answer is not None
        self._answer.headers[name.decode().lower()] = value.decode("latin-1")

    def on_chunk_header(self) -> None:
        assert self._answer is not None
        self._answer.chunks += 1

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        if answer.first_at is None:
            answer.first_at = time.monotonic()
        if self._on_body is None or answer.status >= 300:
            answer.parts.append(data)
        else:
            self._on_body(data)

    def on_message_complete(self) -> None:
        answer = self._answer
        assert answer is not None
        answer.ended_at = self.idle_since = time.monotonic()
        self.reusable = self.reusable and self._parser.should_keep_alive()
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(answer)

    def _fail(self, why: str) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(Broken(why))
        self.transport.abort()


class Caller:
    """A caller of one server on 127.0.0.1. `base` goes before each path."""

    def __init__(self, port: int, key: str = "", *, base: str = "", model: str = "mock") -> None:
        self.port = port
        self._base = base
        self._key = key
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self.model = model

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        on_body: Callable[[bytes], None] | None = None,
        expect: int | None = 200,
    ) -> Answer:
        """Send a request and wait for the end of its answer; the body goes to `on_body` as it comes.

        Raises:
            Broken: the connection ended, or the status is not the expected one (None: any is).
        """
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {self._base}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        connection = await self._connection()
        try:
            answer = await connection.ask(head.encode() + data, on_body)
        except BaseException:
            connection.transport.abort()
            self._all.discard(connection)
            raise
        if connection.reusable:
            self._idle.append(connection)
        if expect is not None and answer.status != expect:
            raise Broken(f"{method} {path}: {answer.status} {b''.join(answer.parts)[:300]!r}")
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and time.monotonic() - connection.idle_since < _FRESH_S:
                return connection
            connection.transport.abort()
            self._all.discard(connection)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
        self._all.add(connection)
        return connection

    def close(self) -> None:
        """Leave."""
        for connection in self._all:
            connection.transport.abort()
        self._all.clear()
        self._idle.clear()
