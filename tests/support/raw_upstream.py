"""An upstream that sends exactly the bytes that a test gives it, and records each request.

One server stands for several providers: `base_url("main")` and `base_url("other")` are different upstreams. A test
plays a list of answers to one model of one provider, in turn; the last one is repeated. Not here: scripts that generate
tokens, and faults of the connection (tests/support/upstream).
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

MAIN, OTHER = "main", "other"
EVENT_STREAM, JSON = "text/event-stream", "application/json"


@dataclass(frozen=True)
class Raw:
    """One HTTP answer. `media_type` None: without a Content-Type. Each element of `pieces` is one HTTP chunk."""

    pieces: tuple[bytes, ...]
    media_type: str | None = EVENT_STREAM
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    held: asyncio.Event | None = None
    """The body stays open until this is set, if there is one."""


Body = Mapping[str, Any]
Play = Raw | Callable[[Body], Raw]
"""An answer, or a function that makes one of the request's body."""


def sent(*pieces: bytes, media_type: str | None = EVENT_STREAM, status: int = 200, **more: Any) -> Raw:
    """Return an answer of these bytes."""
    return Raw(pieces, media_type, status, **more)


def as_json(body: object, status: int = 200) -> Raw:
    """Return an answer of one JSON document."""
    return sent(json.dumps(body).encode(), media_type=JSON, status=status)


def event(data: object) -> bytes:
    """One event of a stream: its data as it is, or as JSON."""
    return b"data: %b\n\n" % (data if isinstance(data, bytes) else json.dumps(data).encode())


def events(*data: object, done: bool = True) -> Raw:
    """Return an answer of these events, and `[DONE]`."""
    return sent(*map(event, data), *([event(b"[DONE]")] if done else []))


def chunk(delta: object, finish: str | None = None, index: object = 0, **more: object) -> dict[str, Any]:
    """Return a chunk with one choice; `more` stands beside the choices."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def said(*deltas: object, finish: str = "stop") -> Raw:
    """Return a stream of these deltas, which ends well."""
    return events(*map(chunk, deltas), chunk({}, finish))


def completion(message: object, finish: str = "stop", **more: object) -> dict[str, Any]:
    """Return a whole chat completion."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


class RawUpstream:
    """A running upstream."""

    def __init__(self) -> None:
        self.port = 0
        self.models: object = {"object": "list", "data": []}
        """The answer to `GET /models` of every provider."""
        self._plays: dict[tuple[str, str], tuple[Play, ...]] = {}
        self._bodies: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)

    def base_url(self, provider: str) -> str:
        """Return the address of one of the providers."""
        return f"http://127.0.0.1:{self.port}/{provider}/v1"

    def play(self, model: str, *plays: Play, provider: str = MAIN) -> None:
        """Answer the requests for a model so, in turn."""
        self._plays[provider, model] = plays
        self._bodies[provider, model].clear()

    def asked(self, model: str, provider: str = MAIN) -> list[dict[str, Any]]:
        """Return the bodies of all requests for a model."""
        return self._bodies[provider, model]

    def next(self, provider: str, body: dict[str, Any]) -> Raw:
        """Record a request and find its answer."""
        name = provider, str(body.get("model"))
        plays = self._plays.get(name)
        if plays is None:
            return as_json({"error": {"message": f"Nothing is played to {name}."}}, HTTPStatus.IM_A_TEAPOT)
        self._bodies[name].append(body)
        play = plays[min(len(self._bodies[name]), len(plays)) - 1]
        return play if isinstance(play, Raw) else play(body)


@asynccontextmanager
async def running_raw_upstream() -> AsyncIterator[RawUpstream]:
    """An upstream on 127.0.0.1, in this process and event loop."""
    upstream = RawUpstream()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve(upstream, reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=64 * 1024 * 1024)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _serve(upstream: RawUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection's requests, one after the other, until it closes."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                provider, _, path = line.split(" ")[1].removeprefix("/").partition("/")
                is_models = path.endswith("/models")
                answer = as_json(upstream.models) if is_models else upstream.next(provider, json.loads(raw))
                await _send(writer, answer)
        finally:
            writer.close()


async def _send(writer: asyncio.StreamWriter, answer: Raw) -> None:
    lines = [f"HTTP/1.1 {answer.status} Answered", "Transfer-Encoding: chunked"]
    if answer.media_type is not None:
        lines.append(f"Content-Type: {answer.media_type}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    for piece in filter(None, answer.pieces):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    if answer.held is not None:
        await answer.held.wait()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
