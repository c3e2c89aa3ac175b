"""A client's connection to the upstream: it reads requests, records them, and has each answered by a task.

Not here: the answers (chat.py, embeddings.py), and how they are written (writer.py).
"""

import asyncio
import json
import time
from contextlib import suppress
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from tests.support.upstream.bodies import refusal
from tests.support.upstream.chat import ChatAnswer
from tests.support.upstream.embeddings import send_embeddings
from tests.support.upstream.script import Answer
from tests.support.upstream.seen import Seen
from tests.support.upstream.state import Upstream
from tests.support.upstream.writer import AnswerWriter


class Connection(asyncio.Protocol):
    """One client's socket: requests come one after the other, each is answered by a task."""

    transport: asyncio.Transport
    _writer: AnswerWriter

    def __init__(self, upstream: Upstream, connections: "set[Connection]") -> None:
        self._upstream = upstream
        self._connections = connections
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has another base
        self._writer = AnswerWriter(self.transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._upstream.sockets -= self._counted
        if self._task is not None:
            self._task.cancel()
        self._upstream.notice()

    def pause_writing(self) -> None:
        self._writer.writable.clear()

    def resume_writing(self) -> None:
        self._writer.writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._serve_next()

    def _serve_next(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._task = asyncio.create_task(self._serve(line.split(" ")[1], headers, rest[:length]))

    async def _serve(self, target: str, headers: dict[str, str], raw: bytes) -> None:
        url = urlsplit(target)
        if url.path == "/observations":
            await self._observe(dict(parse_qsl(url.query)))
        elif url.path == "/open":
            self._writer.send(Answer(body=sum(seen.ended is None for seen in self._upstream.requests)))
        elif url.path == "/meter":
            self._writer.send(Answer(body=self._upstream.meter.as_dict()))
        else:
            if not self._counted:
                self._counted = True
                self._upstream.sockets += 1
                self._upstream.connections += 1
            seen = Seen(url.path, headers, json.loads(raw) if raw else {}, time.monotonic())
            self._upstream.requests.append(seen)
            self._upstream.notice()
            try:
                await self._answer(seen)
            except asyncio.CancelledError:
                seen.closed = True
                raise
            finally:
                seen.ended = time.monotonic()
                self._upstream.notice()
        self._task = None
        self._serve_next()

    async def _observe(self, wanted: dict[str, str]) -> None:
        upstream = self._upstream
        with suppress(TimeoutError):
            await upstream.until(
                lambda: (
                    len(upstream.requests) >= int(wanted.get("requests", 0))
                    and upstream.closed >= int(wanted.get("closed", 0))
                )
            )
        self._writer.send(Answer(body=upstream.observations()))

    async def _answer(self, seen: Seen) -> None:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if self._upstream.key not in (None, given):
            self._writer.send(refusal(401, f"Incorrect API key provided: {given}.", "invalid_api_key"))
        elif seen.path.endswith("/models"):
            if self._upstream.models is None:
                await asyncio.Event().wait()
            self._writer.send(Answer(body=self._upstream.models))
        elif seen.path.endswith("/chat/completions"):
            await ChatAnswer(self._upstream, self._writer, seen).send()
        elif seen.path.endswith("/embeddings"):
            await send_embeddings(self._upstream, self._writer, seen)
        else:
            self._writer.send(refusal(404, f"There is nothing at {seen.path}.", None))
