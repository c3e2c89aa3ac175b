"""An OpenAI-compatible upstream that plays the request's script over HTTP.

The vocabulary is the scripted provider's (worker/upstream/providers/scripted.py) plus faults that only a wire has
(`WireScript`). In a test's own process: `async with running_upstream() as upstream`. As a process of its own:
`python -m tests.support.upstream --port 0` prints its base URL; `GET /observations?closed=1` waits until one
stream was closed by its client, `GET /open` counts the requests that are not over, `GET /meter` the tokens that were
generated, and those of them a second time. It speaks just enough HTTP/1.1 to stay out of a benchmark's way.
"""

import argparse
import asyncio
import gzip
import json
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, cast
from urllib.parse import parse_qsl, urlsplit

import uvloop
from pydantic import BaseModel, ConfigDict, Field

from shared.model.errors import ProviderRefused
from shared.model.routes import Continuation
from tests.support.continuation import WrongBeginning, begun, rest
from tests.support.meter import Meter
from tests.support.unread import Unread
from worker.upstream.providers.scripted import MODEL, Script, embed, perform, script_of, scripted_inputs, text_of

TIMEOUT_S = 5.0
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\nX-Request-Id: req_scripted\r\n\r\n"
)
_BAD_DATA = {
    "nonsense": b'["nonsense"]',
    "bad_json": b'{"choices": [{"delta": {"content": "half a',
    "bad_utf8": b'{"choices": [{"delta": {"content": "\xff"}}]}',
}
_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tailrace"}
_POLL_S = 0.005
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Answer(BaseModel):
    """A whole HTTP answer in place of a stream. A `body` that is a text is sent as it is, others as JSON; `gzip`
    compresses it, whatever was asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    status: int = 200
    headers: dict[str, str] = {}
    body: Any = None
    gzip: bool = False


class WireScript(Script):
    """`Script` with the faults that only a wire has; like the others they come after `after` deltas.

    `hang` never sends the headers, `whole` sends JSON in place of a stream; `reset` and `cut` end the
    connection with a RST and a FIN, before the headers if `after` is 0; `error` is an error object;
    `bad_json` is a line that is not JSON, `bad_utf8` one with a byte that is not UTF-8; `keepalives` are comments
    for ever, `endless_line` is a line for ever. `no_done` leaves out `[DONE]`, `no_end` leaves the body open,
    `never_close` does both.
    """

    FAULTS: ClassVar[tuple[str, ...]] = (
        *Script.FAULTS,
        *("hang", "whole", "reset", "cut", "error", "bad_json", "bad_utf8", "keepalives", "endless_line"),
        *("no_done", "no_end", "never_close"),
    )
    error: Any = Field(None, description="the error object of an `error`")
    http: Answer | None = Field(None, description="answered in place of everything")
    burst: int = Field(1, ge=1, description="unpaced chunks that are written at once")


PlannedFault = Callable[[str, WireScript, int], tuple[str, WireScript] | None]
"""Given a question, the script of its answer and the tokens left: the fault of now and its script, or None."""


@dataclass(frozen=True)
class Manner:
    """The behaviour of an upstream to all its callers, beside their scripts."""

    continuation: Continuation = Continuation.NONE
    """The way in which callers must request the rest of an answer."""
    planned_fault: PlannedFault = lambda question, script, left: None
    ahead: int | None = None
    """It stops while a caller has so many bytes that it has not read (Linux); None: never."""


def ask(*, model: str = MODEL, **script: Any) -> dict[str, Any]:
    """Return a chat request that carries this script."""
    return {"model": model, "messages": [{"role": "user", "content": json.dumps({"script": script})}]}


def expected_text(request: Mapping[str, Any], choice: int = 0) -> str:
    """Return the exact text of the answer to this request, as it is without a fault."""
    return text_of(request, script_of(request, WireScript), choice)


@dataclass
class Seen:
    """One request, as the upstream saw it. Times are `time.monotonic()`, which all processes share."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    started: float
    begun: int = 0
    """Tokens that the request gave as the beginning of its answer."""
    tokens: int = 0
    """Deltas that were written to an open socket."""
    sent: int = 0
    """Chunks that were written."""
    held_up: bool = False
    """It had to wait for a reader that did not read."""
    silent: bool = False
    """It has sent all its chunks, and does not end."""
    ended: float | None = None
    """When the answer, or the client's interest in it, ended."""
    closed: bool = False
    """The client closed its socket before the answer had ended."""

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of `/observations`."""
        asked = {name: self.body.get(name) for name in ("model", "messages", "input")}
        shown = {"path": self.path, **asked, "begun": self.begun, "tokens": self.tokens, "sent": self.sent}
        return {**shown, "started": self.started, "ended": self.ended, "closed": self.closed}


class Upstream:
    """A running upstream, as its tests see it. `key`: the only API key that is let in; None: each is."""

    def __init__(self, base_url: str, key: str | None, manner: Manner) -> None:
        self.base_url = base_url
        self.key = key
        self.manner = manner
        self.unread: Unread | None = None
        self.meter = Meter()
        self.models: object = {"object": "list", "data": [_MODEL]}
        """The answer to `/models`; None: no answer, for ever."""
        self.held: set[int] = set()
        """Which embeddings requests, counted from 0, are never answered."""
        self.requests: list[Seen] = []
        self.sockets = 0
        """Open connections that have carried a request."""
        self.connections = 0
        """All that ever did."""
        self._changed = asyncio.Event()

    @property
    def closed(self) -> int:
        """How many streams were closed by their clients."""
        return sum(seen.closed for seen in self.requests)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so, for at most `TIMEOUT_S`.

        Raises:
            TimeoutError: it never was.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def request(self, number: int = 0) -> Seen:
        """Return the request of this number, once it is there."""
        await self.until(lambda: len(self.requests) > number)
        return self.requests[number]

    def notice(self) -> None:
        """Something has changed."""
        self._changed.set()

    def observations(self) -> dict[str, Any]:
        """Return the contents of `/observations`."""
        requests = [seen.as_dict() for seen in self.requests]
        return {"requests": requests, "closed": self.closed, "sockets": self.sockets}


@asynccontextmanager
async def running_upstream(
    port: int = 0, *, key: str | None = None, manner: Manner | None = None
) -> AsyncIterator[Upstream]:
    """An upstream on 127.0.0.1, in this process and event loop."""
    upstream = Upstream("", key, manner or Manner())
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    server = await loop.create_server(lambda: _Connection(upstream, connections), "127.0.0.1", port, backlog=2048)
    upstream.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        with _unread(upstream.manner) as upstream.unread:
            yield upstream
    finally:
        server.close()
        for connection in list(connections):
            connection.transport.abort()
        await upstream.until(lambda: not connections)


def _unread(manner: Manner) -> AbstractContextManager[Unread | None]:
    return nullcontext() if manner.ahead is None else Unread()


class _Connection(asyncio.Protocol):
    """One client's socket: requests come one after the other, each is answered by a task."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream, connections: "set[_Connection]") -> None:
        self._upstream = upstream
        self._connections = connections
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has another base
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._upstream.sockets -= self._counted
        if self._task is not None:
            self._task.cancel()
        self._upstream.notice()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

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
            self._send(Answer(body=sum(seen.ended is None for seen in self._upstream.requests)))
        elif url.path == "/meter":
            self._send(Answer(body=self._upstream.meter.as_dict()))
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
        self._send(Answer(body=upstream.observations()))

    async def _answer(self, seen: Seen) -> None:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if self._upstream.key not in (None, given):
            self._send(_refusal(401, f"Incorrect API key provided: {given}.", "invalid_api_key"))
        elif seen.path.endswith("/models"):
            if self._upstream.models is None:
                await asyncio.Event().wait()
            self._send(Answer(body=self._upstream.models))
        elif seen.path.endswith("/chat/completions"):
            await self._complete(seen)
        elif seen.path.endswith("/embeddings"):
            await self._embed(seen)
        else:
            self._send(_refusal(404, f"There is nothing at {seen.path}.", None))

    async def _complete(self, seen: Seen) -> None:
        try:
            script = self._befallen(seen, script_of(seen.body, WireScript))
        except ProviderRefused as error:
            self._send(_refusal(error.status, str(error), error.code, error.param))
            return
        except WrongBeginning as error:
            self._upstream.meter.problems.append(f"The upstream can't go on as it was asked to: {error}")
            self._send(_refusal(400, str(error), "invalid_request_error", "messages"))
            return
        if script.http is not None:
            self._send(script.http)
        elif script.fault == "refuse" and not script.after:
            refusal = ProviderRefused(script.message, code=script.code)
            self._send(_refusal(refusal.status, script.message, script.code))
        elif script.fault == "hang":
            await self._say_no_more(seen)
        elif script.fault in ("reset", "cut") and not script.after:
            self._break_off(script)
        elif script.fault == "whole" or not seen.body.get("stream"):
            self._send(Answer(body=_whole(seen.body, script)))
        else:
            await self._stream(seen, script)

    def _befallen(self, seen: Seen, script: WireScript) -> WireScript:
        """Choose the script of this call: the rest of the request's script, unless a planned fault changes it."""
        manner, meter = self._upstream.manner, self._upstream.meter
        seen.begun = begun(seen.body, script, manner.continuation)
        left = max(1, (script.tokens or 0) - seen.begun)
        if (planned_fault := manner.planned_fault(_question(seen.body), script, left)) is None:
            return script
        kind, script = planned_fault
        meter.planned_faults[kind] += 1
        return script

    async def _embed(self, seen: Seen) -> None:
        """The first input with a fault or an answer of its own has its way; the others are embedded."""
        if [each for each in self._upstream.requests if each.path == seen.path].index(seen) in self._upstream.held:
            await self._say_no_more(seen)
        try:
            scripts = [script_of(each, WireScript) for each in scripted_inputs(seen.body)]
        except ProviderRefused as error:
            self._send(_refusal(error.status, str(error), error.code, error.param))
            return
        script = next((each for each in scripts if each.fault or each.http), WireScript())
        if script.http is not None:
            self._send(script.http)
        elif script.fault == "refuse":
            refusal = ProviderRefused(script.message, code=script.code)
            self._send(_refusal(refusal.status, script.message, script.code))
        elif script.fault in ("hang", "stall"):
            await self._say_no_more(seen)
        elif script.fault in ("reset", "cut"):
            self._break_off(script)
        else:
            self._send(Answer(body=embed(seen.body)))

    async def _stream(self, seen: Seen, script: WireScript) -> None:
        self.transport.write(_STREAM_HEAD)
        question = _question(seen.body)
        if not (seen.body.get("stream_options") or {}).get("include_usage"):
            script = script.model_copy(update={"usage": False})
        start = time.monotonic()
        burst: list[bytes] = []
        for chunk in rest(seen.body, script, seen.begun):
            if chunk is None:
                self._write(b"".join(burst))
                burst.clear()
                if not await self._suffer(seen, script):
                    return
                continue
            if script.rate and seen.sent > 1:  # a role and a first token come at once
                await asyncio.sleep(start + (seen.sent - 1) / script.rate - time.monotonic())
            if _is_token(chunk):
                await self._reader_keeps_up(seen)
                self._upstream.meter.count(question, seen.begun + seen.tokens, seen.started)
                seen.tokens += 1
            burst.append(_event(_encode(chunk).encode()))
            seen.sent += 1
            if script.rate or len(burst) >= script.burst:
                self._write(b"".join(burst))
                burst.clear()
                await asyncio.sleep(0)
                await self._writable.wait()
        self._write(b"".join(burst))
        if script.fault not in ("no_done", "never_close"):
            self._write(_event(b"[DONE]"))
        if script.fault in ("never_close", "no_end"):
            await self._say_no_more(seen)
        self._end_body()

    async def _reader_keeps_up(self, seen: Seen) -> None:
        ahead, unread = self._upstream.manner.ahead, self._upstream.unread
        if ahead is None or unread is None:
            return
        ends = [self.transport.get_extra_info(name) for name in ("peername", "sockname")]
        while unread.of(*ends) >= ahead:
            seen.held_up = True
            self._upstream.notice()
            await asyncio.sleep(_POLL_S)

    async def _say_no_more(self, seen: Seen) -> None:
        seen.silent = True
        self._upstream.notice()
        await asyncio.Event().wait()

    async def _suffer(self, seen: Seen, script: WireScript) -> bool:
        """Let the fault happen. False: the answer has ended with it."""
        match script.fault:
            case "stall" if script.stall_s is None:
                await self._say_no_more(seen)
            case "stall":
                await asyncio.sleep(script.stall_s or 0)
            case "refuse":
                self._write(_event(_encode(_error(script.message, script.code)).encode()))
            case "error":
                self._write(_event(_encode({"error": script.error}).encode()))
            case "nonsense" | "bad_json" | "bad_utf8":
                self._write(_event(_BAD_DATA[script.fault]))
            case "truncate":
                self._end_body()
                return False
            case "reset" | "cut":
                self._break_off(script)
                return False
            case "keepalives":
                seen.silent = True
                while True:
                    self._upstream.notice()
                    self._write(b": still here\n\n")
                    await asyncio.sleep(0.01)
            case "endless_line":
                self._write(b"data: ")
                while True:
                    self._write(b"x" * 65_536)
                    await asyncio.sleep(0)
                    await self._writable.wait()
        return True

    def _break_off(self, script: WireScript) -> None:
        if script.fault == "cut":
            self.transport.close()
        else:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()

    def _write(self, data: bytes) -> None:
        if data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _end_body(self) -> None:
        self.transport.write(b"0\r\n\r\n")

    def _send(self, answer: Answer) -> None:
        is_text = isinstance(answer.body, str)
        body = answer.body.encode() if is_text else json.dumps(answer.body).encode()
        headers = {"Content-Type": "text/plain" if is_text else "application/json", **answer.headers}
        if answer.gzip:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def _question(request: Mapping[str, Any]) -> str:
    """Return the key by which two requests are the same, even if the second one has a part of the answer."""
    return str([message for message in request.get("messages", ()) if message.get("role") == "user"])


def _is_token(chunk: Mapping[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unheard Of"


def _error(message: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _refusal(status: int, message: str, code: str | None, param: str | None = None) -> Answer:
    return Answer(status=status, body=_error(message, code, param))


def _whole(request: Mapping[str, Any], script: WireScript) -> dict[str, Any]:
    """Return the stream's chunks, added up to one `chat.completion`."""
    chunks = [chunk for chunk in perform(request, script) if chunk is not None]
    said: dict[int, list[dict[str, Any]]] = {}
    reasons: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        said.setdefault(choice["index"], []).append(choice["delta"])
        if reason := choice.get("finish_reason"):
            reasons[choice["index"]] = reason
    return {
        **chunks[0],
        "object": "chat.completion",
        "choices": [{"index": i, "message": _message(said[i]), "finish_reason": reasons[i]} for i in said],
        "usage": chunks[-1].get("usage"),
    }


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(d.get("content", "") for d in deltas)}
    if thoughts := [d["reasoning_content"] for d in deltas if "reasoning_content" in d]:
        message["reasoning_content"] = "".join(thoughts)
    for part in (part for d in deltas for part in d.get("tool_calls", ())):
        calls = message.setdefault("tool_calls", [])
        if "id" in part:
            calls.append({"id": part["id"], "type": "function", "function": {**part["function"]}})
        else:
            calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    return message


async def serve(*, manner: Manner | None = None, port: int = 0, key: str | None = None, seconds: float) -> None:
    """Be a process of its own until a signal comes, for at most so long; says its base URL on stdout."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_upstream(port, key=key, manner=manner) as upstream:
        print(upstream.base_url, flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)


def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted, OpenAI-compatible upstream on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--key", help="the only API key that is let in; without: each is")
    parser.add_argument("--continuation", type=Continuation, default="none", help="how it is asked to go on")
    parser.add_argument("--for", type=float, default=600, dest="seconds", help="it ends itself after so long")
    options = parser.parse_args()
    manner = Manner(continuation=options.continuation)
    uvloop.run(serve(manner=manner, port=options.port, key=options.key, seconds=options.seconds))


if __name__ == "__main__":
    _main()
