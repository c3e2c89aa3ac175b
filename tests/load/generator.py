"""The load: streams with a check of every token, and the ways to make many of them.

`Hearing` is one stream as its reader hears it; `native`, `chat`, `responses` and `ui` ask for a stream in that dialect;
`paced`, `unpaced`, `together` and `steady` are loads, each bounded in number. Not here: HTTP (caller.py), processes,
and the loads of each row (scenarios.py, bursts.py).
"""

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar
from uuid import uuid4

from tests.load.caller import Answer, Broken, Caller
from tests.load.mock_upstream import Order

LIMIT_S = 120.0
"""No load takes longer than this: then it is cut off, with a `TimeoutError`."""
# Responses and UI messages say `delta`; chats and native events say `content`.
_TOKEN = re.compile(rb'"(?:content|delta)":\s*" (\d{5})"')
_ENDS = re.compile(rb"^(?:data: \[DONE\]|event: (?:response\.)?completed)$", re.MULTILINE)
# A job that starts over would make the numbers begin again; so would nothing else that is said here.
_BAD_ENDS = re.compile(
    rb"^event: (?:failed|cancelled|expired|rollback|gap|response\.failed|response\.incomplete|error)$", re.MULTILINE
)


T = TypeVar("T")


class Hearing:
    """One stream as its reader hears it. `faults` lists its errors: a missing token, one too many."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._next = 0
        self._rest = b""
        self._ended = False
        self.asked_at = 0.0
        self.arrivals: list[tuple[float, int]] = []
        """When tokens came, and how many at once."""
        self.faults: list[str] = []

    @property
    def count(self) -> int:
        """Tokens that were received."""
        return sum(count for _, count in self.arrivals)

    @property
    def first_s(self) -> float:
        """From the request to the first token."""
        return self.arrivals[0][0] - self.asked_at

    def gaps_between(self, begin: float, end: float) -> list[float]:
        """Times between tokens that came in this time; those that came together have none."""
        gaps: list[float] = []
        for (before, _), (at, count) in pairwise(self.arrivals):
            if begin <= at < end:
                gaps.append(at - before)
                gaps.extend([0.0] * (count - 1))
        return gaps

    def hear(self, data: bytes) -> None:
        """A piece of the stream, cut anywhere."""
        whole, cut, self._rest = (self._rest + data).rpartition(b"\n\n")
        if not cut:
            return
        numbers = [int(number) for number in _TOKEN.findall(whole)]
        if numbers:
            self.arrivals.append((time.monotonic(), len(numbers)))
            self._check(numbers)
        if b"event: " in whole and (bad := _BAD_ENDS.search(whole)):
            self.faults.append(f"{bad[0].decode()} after {self._next} tokens")
        self._ended = self._ended or _ENDS.search(whole) is not None

    def _check(self, numbers: list[int]) -> None:
        expected = list(range(self._next, self._next + len(numbers)))
        if numbers != expected:
            wrong = next((n, e) for n, e in zip(numbers, expected, strict=True) if n != e)
            self.faults.append(f"token {wrong[0]} where {wrong[1]} was due")
        self._next = numbers[-1] + 1

    def end(self) -> "Hearing":
        """Note the end of the body: the stream must have ended, with all its tokens."""
        if not self._ended:
            self.faults.append(f"it ended without saying so, after {self._next} tokens")
        elif self._next != self._tokens:
            self.faults.append(f"it ended after {self._next} of {self._tokens} tokens")
        return self


Asking = Callable[[Order], Coroutine[Any, Any, Hearing]]
"""Asks for a stream, and hears it to its end."""


def chat(caller: Caller) -> Asking:
    """`POST /v1/chat/completions`, at any OpenAI-compatible server."""

    return _posting(caller, "/v1/chat/completions", lambda order: order.request(caller.model))


def responses(caller: Caller) -> Asking:
    """`POST /v1/responses`."""
    return _posting(caller, "/v1/responses", lambda order: {"model": caller.model, "stream": True, "input": order.text})


def ui(caller: Caller) -> Asking:
    """`POST /api/chat`, a chat of its own each time: in one chat one answer is given at a time."""

    def body(order: Order) -> dict[str, Any]:
        message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": order.text}]}
        return {"model": caller.model, "id": uuid4().hex, "trigger": "submit-message", "messages": [message]}

    return _posting(caller, "/api/chat", body)


def in_turn(asking: Sequence[Asking]) -> Asking:
    """Ask these one after the other, over and over: one stream each."""
    turns = itertools.cycle(asking)

    async def ask(order: Order) -> Hearing:
        return await next(turns)(order)

    return ask


def _posting(caller: Caller, path: str, body: Callable[[Order], dict[str, Any]]) -> Asking:
    async def ask(order: Order) -> Hearing:
        hearing = Hearing(order.tokens)
        hearing.asked_at = time.monotonic()
        await _hearing(hearing, caller.ask("POST", path, body(order), on_body=hearing.hear))
        return hearing

    return ask


def native(caller: Caller) -> Asking:
    """`POST /v1/jobs`, then the job's events."""

    async def ask(order: Order) -> Hearing:
        hearing = Hearing(order.tokens)
        hearing.asked_at = time.monotonic()
        job = await submit(caller, order)
        await _hearing(hearing, caller.ask("GET", f"/v1/jobs/{job}/events", on_body=hearing.hear))
        return hearing

    return ask


async def _hearing(hearing: Hearing, call: Awaitable[Answer]) -> None:
    try:
        await call
    except Broken as error:
        hearing.faults.append(str(error))
    else:
        hearing.end()


async def submit(caller: Caller, order: Order) -> str:
    """Submit a job; return its id."""
    body = order.request(caller.model)
    del body["stream"]
    job: str = (await caller.ask("POST", "/v1/jobs", body, expect=202)).json()["id"]
    return job


@dataclass(frozen=True)
class SteadyLoad:
    """So many streams at once, at so many tokens a second each, for as long as the window is.

    New streams begin evenly spaced, whatever becomes of the former (an open loop: a slow server does not get less to
    do). Each has `tokens` tokens; the window opens when the first ends, since from then on the number is steady.
    """

    streams: int
    rate: float
    tokens: int
    window_s: float

    @property
    def length_s(self) -> float:
        """How long a stream takes."""
        return self.tokens / self.rate

    @property
    def starts(self) -> list[float]:
        """When each stream begins, in seconds from the beginning."""
        spacing = self.length_s / self.streams
        return [number * spacing for number in range(self.streams + int(self.window_s / spacing))]


@dataclass
class Received:
    """The events that a load has received within its window."""

    hearings: list[Hearing]
    begin: float
    end: float

    @property
    def faults(self) -> list[str]:
        """Return the faults of all streams, those outside the window too."""
        return [fault for hearing in self.hearings for fault in hearing.faults]

    @property
    def tokens(self) -> int:
        """Tokens that came."""
        arrivals = (arrival for hearing in self.hearings for arrival in hearing.arrivals)
        return sum(count for at, count in arrivals if self.begin <= at < self.end)

    @property
    def seconds(self) -> float:
        """How long the window was."""
        return self.end - self.begin

    @property
    def first_s(self) -> list[float]:
        """First-token times of the streams that were asked for."""
        return [h.first_s for h in self.hearings if h.arrivals and self.begin <= h.asked_at < self.end]

    @property
    def gaps_s(self) -> list[float]:
        """Times between tokens; those that came together have none."""
        return [gap for hearing in self.hearings for gap in hearing.gaps_between(self.begin, self.end)]


Watch = Callable[[], None]
"""Called when the window opens, and when it closes."""


def _nothing() -> None:
    pass


async def paced(ask: Asking, steady_load: SteadyLoad, *, watch: Watch = _nothing) -> Received:
    """Streams at a steady steady_load."""
    loop = asyncio.get_running_loop()
    began = loop.time() + 0.01

    async def one(start_s: float) -> Hearing:
        await asyncio.sleep(began + start_s - loop.time())
        return await ask(Order(steady_load.tokens, steady_load.rate))

    begin, end = began + steady_load.length_s, began + steady_load.length_s + steady_load.window_s
    timers = [loop.call_at(at, watch) for at in (begin, end)]
    try:
        return Received(await _all([one(start) for start in steady_load.starts]), begin, end)
    finally:
        for timer in timers:
            timer.cancel()


async def unpaced(ask: Asking, *, at_once: int, each: int, tokens: int, watch: Watch = _nothing) -> Received:
    """So many readers at once, each of which asks for `each` streams, one after the other."""

    async def one() -> list[Hearing]:
        return [await ask(Order(tokens)) for _ in range(each)]

    watch()
    begin = time.monotonic()
    hearings = await _all([one() for _ in range(at_once)])
    watch()
    return Received([hearing for reader in hearings for hearing in reader], begin, time.monotonic())


async def together(ask: Asking, order: Order, *, count: int, within_s: float) -> Received:
    """Ask for `count` such streams, evenly spaced within this time; all that they say counts."""
    begin = time.monotonic()
    hearings = await steady(lambda _: ask(order), count=count, every_s=within_s / count)
    return Received(hearings, begin, time.monotonic())


async def steady(each: Callable[[int], Awaitable[T]], *, count: int, every_s: float) -> list[T]:
    """Start the same call `count` times, evenly spaced, whether or not the former has ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(number: int) -> T:
        await asyncio.sleep(began + number * every_s - loop.time())
        return await each(number)

    return await _all([one(number) for number in range(count)])


async def _all(parts: Sequence[Awaitable[T]]) -> list[T]:
    async with asyncio.timeout(LIMIT_S):
        return list(await asyncio.gather(*parts))


async def leave(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
