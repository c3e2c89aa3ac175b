"""A lean OpenAI-compatible upstream, so that a measurement is one of the gateway before it.

The last message of a request holds its order: `{"tokens": 250, "rate": 50}` (`Order`). Tokens are numbered, so that
a reader can check that none is missing and none comes twice. As a process: `python -m tests.load.mock_upstream` prints
its base URL. `GET /observations?open=500` waits until so many streams are open, `GET /closed?name=…` until the client
of that stream has closed it. Not here: faults of providers
(tests/support/upstream).
"""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

import httptools
import uvloop

MOST_TOKENS = 100_000
TIMEOUT_S = 10.0
_BURST = 8
"""Unpaced tokens that are written at once."""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_ROLE = b'"delta":{"role":"assistant","content":""},"finish_reason":null'
_STOP = b'"delta":{},"finish_reason":"stop"'


@dataclass(frozen=True)
class Order:
    """The length and rate of a stream. `rate` is tokens a second, 0: as fast as the client takes them."""

    tokens: int
    rate: float = 0
    name: str = ""
    """By which `/closed` finds the stream."""
    skip: int | None = None
    """This token is left out."""
    repeat: int | None = None
    """This token comes twice."""
    refusal: int | None = None
    """An answer of this status comes in place of the stream."""

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise ValueError(f"A stream has 1 to {MOST_TOKENS} tokens.")

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Return the order in a chat request."""
        return cls(**json.loads(json.loads(body)["messages"][-1]["content"]))

    @property
    def text(self) -> str:
        """Return the text of a request's last message that orders this stream."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    def request(self, model: str = "mock") -> dict[str, Any]:
        """Return a chat request with this order."""
        return {"model": model, "stream": True, "messages": [{"role": "user", "content": self.text}]}

    def numbers(self) -> list[int]:
        """Return the tokens' numbers, as they are sent."""
        numbers = [number for number in range(self.tokens) if number != self.skip]
        return sorted([*numbers, self.repeat]) if self.repeat is not None else numbers


class Mock:
    """The observations of the upstream. Times are `time.monotonic()`, which all processes share."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.streams = 0
        """Streams that were begun."""
        self.open = 0
        """Streams that are being written now."""
        self.closed: dict[str, asyncio.Future[float]] = {}
        """When the clients closed streams that had not ended."""
        self._changed = asyncio.Event()

    def count(self, opened: int) -> None:
        """A stream was opened (1) or is over (-1)."""
        self.open += opened
        self.streams += max(0, opened)
        self._changed.set()

    async def until_open(self, count: int) -> None:
        """Wait until so many streams are written at once, at most `TIMEOUT_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                while self.open < count:
                    self._changed.clear()
                    await self._changed.wait()

    def closing(self, name: str) -> asyncio.Future[float]:
        """When the client of this stream closed it."""
        return self.closed.setdefault(name, asyncio.get_running_loop().create_future())


class Connection(asyncio.Protocol):
    """One client's socket: requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body: list[bytes] = []
        self._order: Order | None = None
        self._numbers: list[int] = []
        self._sent = 0
        self._began = 0.0
        self._timer: asyncio.Handle | None = None
        self._takes = True
        self._waiting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it
        self._mock.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, perhaps in the middle of its stream."""
        self._mock.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._order is not None:
            self._mock.count(-1)
            if not (closing := self._mock.closing(self._order.name)).done():
                closing.set_result(time.monotonic())

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._target += url

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        url, body = urlsplit(self._target.decode()), b"".join(self._body)
        self._target = b""
        self._body.clear()
        if url.path.endswith("/chat/completions"):
            self._begin(body)
        elif url.path == "/observations":
            self._waiting = asyncio.create_task(self._tell(int(dict(parse_qsl(url.query)).get("open", 0))))
        elif url.path == "/closed":
            self._waiting = asyncio.create_task(self._tell_closed(dict(parse_qsl(url.query))["name"]))
        else:  # a request for models, or for our health
            self._answer(
                {"object": "list", "data": [{"id": "mock", "object": "model", "created": 0, "owned_by": "us"}]}
            )

    def _begin(self, body: bytes) -> None:
        try:
            order = self._order = Order.of(body)
        except (ValueError, TypeError, LookupError) as error:
            self._answer({"error": {"message": str(error), "type": "invalid_request_error"}}, b"400 Bad Request")
            return
        if order.refusal is not None:
            self._order = None
            self._answer({"error": {"message": "No.", "code": "insufficient_quota"}}, b"%d No" % order.refusal)
            return
        self._numbers = order.numbers()
        self._sent = 0
        self._began = self._loop.time()
        self._mock.count(1)
        self.transport.write(_HEAD + _event(_ROLE))
        self._step()

    def _step(self) -> None:
        """Write the tokens that are due now, and set a timer for the next."""
        order = self._order
        assert order is not None
        self._timer = None
        if order.rate:  # at least the one that the timer was set for: it may be early by a fraction of a millisecond
            due = max(self._sent, int((self._loop.time() - self._began) * order.rate)) + 1
        else:
            due = self._sent + _BURST
        self.transport.write(b"".join([_token(number) for number in self._numbers[self._sent : due]]))
        self._sent = due
        if due >= len(self._numbers):
            self._end()
        elif order.rate:
            self._timer = self._loop.call_at(self._began + due / order.rate, self._step)
        elif self._takes:
            self._timer = self._loop.call_soon(self._step)

    def _end(self) -> None:
        self._order = None
        self._mock.count(-1)
        count = len(self._numbers)
        usage = b'{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}' % (count, count + 1)
        last = _chunk(b'{"id":"chatcmpl-mock","object":"chat.completion.chunk","choices":[],"usage":%b}' % usage)
        self.transport.write(_event(_STOP) + last + _chunk(b"[DONE]") + b"0\r\n\r\n")

    def pause_writing(self) -> None:
        """The client takes no more for now. A paced stream continues, as a model does."""
        self._takes = False

    def resume_writing(self) -> None:
        """It does again."""
        self._takes = True
        if self._order is not None and self._timer is None:
            self._timer = self._loop.call_soon(self._step)

    async def _tell(self, at_least_open: int) -> None:
        await self._mock.until_open(at_least_open)
        self._answer({"open": self._mock.open, "streams": self._mock.streams})

    async def _tell_closed(self, name: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                at = await asyncio.shield(self._mock.closing(name))
        except TimeoutError:
            self._answer({}, b"504 Gateway Timeout")
        else:
            self._answer({"at": at})

    def _answer(self, body: Any, status: bytes = b"200 OK") -> None:
        text = json.dumps(body).encode()
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
        self.transport.write(head + text)


def _token(number: int) -> bytes:
    return _event(b'"delta":{"content":" %05d"},"finish_reason":null' % number)


def _event(choice: bytes) -> bytes:
    return _chunk(
        b'{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":0,"model":"mock",'
        b'"choices":[{"index":0,%b}]}' % choice
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


@asynccontextmanager
async def running_mock(port: int = 0) -> AsyncIterator[str]:
    """A mock upstream on 127.0.0.1, in this process and event loop; its base URL."""
    mock = Mock()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(mock), "127.0.0.1", port, backlog=2048)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for connection in list(mock.connections):
            connection.transport.abort()


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A lean OpenAI-compatible upstream on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--for", type=float, default=3600, dest="seconds", help="it ends itself after so long")
    options = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_mock(options.port) as base_url:
        print(base_url, flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), options.seconds)


if __name__ == "__main__":
    uvloop.run(_main())
