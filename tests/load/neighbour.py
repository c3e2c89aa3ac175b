"""A tenant that does its worst in ten ways at once, as a process of its own, so that its costs are counted apart.

`python -m tests.load.neighbour --port 8080 --key sk-b` says `ready` once each way had a turn, and runs until its
standard input ends. Then it cancels its jobs and prints how often each way had a turn. Each way is a loop without a
pause: the next request follows the last answer. Not here: the effect on another tenant (beside.py).
"""

import argparse
import asyncio
import itertools
import json
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import uvloop

from shared.model.bounds import KIB, MIB
from shared.process.priority import lower_priority
from tests.load.caller import Broken, Caller
from tests.load.mock_upstream import Order

NICE: Final = 10
"""A neighbour calls from a machine of its own: here it takes the processors that no other process wants."""
HELD: Final = 20
"""Connections of each way that holds some."""
DRIP_S: Final = 0.5
FROZEN_S: Final = 10.0
_NOBODY: Final = "job_" + "0" * 26
_PATHS = ("/v1/jobs", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/api/chat")
_BODIES: tuple[Any, ...] = ({}, {"model": 7}, [], "text", {"model": "mock", "timeout_s": -1})
_BAD = itertools.cycle(itertools.product(_PATHS, _BODIES))
_TOKENS = itertools.cycle(("x", "A" * 32, "=" * 3000))
_QUIET = Order(2, 1 / 100)
_LONG = Order(6_000)
_ANSWER = Order(5_000)
_QUIET_FIRST: Final = 150
_FLOOD: Final = 5
_END_S: Final = 60.0


class Neighbour:
    """The tenant: its callers, and the count of turns of each way."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._caller = Caller(port, key)
        self._nobody = Caller(port, "sk-unknown")
        self._answer: str | None = None
        self.turns: Counter[str] = Counter()

    async def ask(self, method: str, path: str, body: Any = None, *, caller: Caller | None = None) -> dict[str, Any]:
        """Send a request and read its answer, whatever it says; empty if there was none."""
        caller = caller or self._caller
        try:
            answer = await caller.ask(method, path, body, expect=None)
        except (Broken, OSError):  # it may be cut off: that is its purpose
            return {}
        with suppress(ValueError):
            return answer.json()
        return {}

    async def submit(self, order: Order, **fields: Any) -> str:
        """Submit a job; return its id, or an unused one if it was refused."""
        body = {**order.request(), **fields}
        del body["stream"]
        return str((await self.ask("POST", "/v1/jobs", body)).get("id", _NOBODY))

    async def bad_requests(self) -> None:
        """Send a request that is refused, each time to another address and for another reason."""
        await self.ask("POST", *next(_BAD))

    async def quiet_jobs(self) -> None:
        """Submit more jobs than there are slots; none of them ends by itself."""
        await asyncio.gather(*(self.submit(_QUIET) for _ in range(1 if self.turns["quiet_jobs"] else _QUIET_FIRST)))

    async def floods(self) -> None:
        """Submit short jobs."""
        await asyncio.gather(*(self.submit(Order(1)) for _ in range(_FLOOD)))

    async def huge_bodies(self) -> None:
        """Send the body that takes longest to decode, in a job, and one that is too large."""
        await self.submit(Order(1), x=[[]] * (MIB // 4 - KIB))
        await self.ask("POST", "/v1/jobs", {"x": "x" * 2 * MIB})

    async def dead_letters(self) -> None:
        """Let a job fail for good."""
        await self.submit(Order(1, refusal=402), model="broken")

    async def references(self) -> None:
        """Refer to an earlier answer as often as fits."""
        if self._answer is None:
            body = {"model": "mock", "background": True, "input": _ANSWER.text}
            self._answer = str((await self.ask("POST", "/v1/responses", body)).get("id", "resp_")).removeprefix("resp_")
        items = [{"type": "item_reference", "id": f"msg_{self._answer}_0"} for _ in range(32)]
        await self.ask("POST", "/v1/responses", {"model": "mock", "background": True, "input": items})

    async def cancels(self) -> None:
        """Cancel a job as soon as it is there."""
        job = await self.submit(_QUIET)
        await self.ask("POST", f"/v1/jobs/{job}/cancel")

    async def link_abuse(self) -> None:
        """Try a link that opens nothing."""
        await self.ask("GET", f"/v1/jobs/{_NOBODY}/events?token={next(_TOKENS)}", caller=self._nobody)

    async def drips(self, stack: AsyncExitStack) -> None:
        """Send bodies byte by byte, over connections that stay open."""
        head = self._head("POST", "/v1/jobs") + b"Content-Length: 100000\r\n\r\n{"
        connections = [await self._connect(stack, head) for _ in range(HELD)]
        while True:
            await asyncio.sleep(DRIP_S)
            for number, connection in enumerate(connections):
                try:
                    connection.send(b" ")
                except BlockingIOError:
                    continue
                except OSError:
                    connections[number] = await self._connect(stack, head)
            self.turns["drips"] += 1

    async def frozen_readers(self, stack: AsyncExitStack) -> None:
        """Ask for a long answer many times, and read nothing of it until the gateway breaks off."""
        while True:
            job = await self.submit(_LONG)
            head = self._head("GET", f"/v1/jobs/{job}/events") + b"\r\n"
            async with AsyncExitStack() as held:
                for _ in range(HELD):
                    await self._connect(held, head)
                self.turns["frozen_readers"] += 1
                await asyncio.sleep(FROZEN_S)

    async def again_and_again(self, way: Callable[[], Awaitable[None]], pause_s: float) -> None:
        """Do the same thing for ever."""
        while True:
            await way()
            self.turns[way.__name__] += 1
            await asyncio.sleep(pause_s * (_HEAVY if way.__name__ in _LARGE else 1))

    async def clean_up(self) -> None:
        """Cancel all jobs that have not ended."""
        for status in ("running", "queued"):
            while jobs := (await self.ask("GET", f"/v1/jobs?status={status}&limit=100")).get("data"):
                await asyncio.gather(*(self.ask("POST", f"/v1/jobs/{job['id']}/cancel") for job in jobs))
        self._caller.close()
        self._nobody.close()

    def _head(self, method: str, path: str) -> bytes:
        return (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()

    async def _connect(self, stack: AsyncExitStack, head: bytes) -> socket.socket:
        connection = stack.enter_context(socket.socket())
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self._port))
        await loop.sock_sendall(connection, head)
        return connection


WAYS: Final = (
    *("bad_requests", "quiet_jobs", "floods", "huge_bodies", "dead_letters"),
    *("references", "cancels", "link_abuse", "drips", "frozen_readers"),
)
_HOLDING: Final = ("drips", "frozen_readers")
_LARGE: Final = ("huge_bodies", "references")
_HEAVY: Final = 10
"""So many times as long is the pause after a megabyte."""


async def run(
    port: int, key: str, ways: tuple[str, ...], until: Callable[[Counter[str]], Awaitable[object]], pause_s: float = 0.0
) -> Counter[str]:
    """Do these until something is over that sees how often each had a turn; return how often."""
    neighbour = Neighbour(port, key)
    async with AsyncExitStack() as stack:
        tasks = [
            asyncio.create_task(
                getattr(neighbour, way)(stack)
                if way in _HOLDING
                else neighbour.again_and_again(getattr(neighbour, way), pause_s)
            )
            for way in ways
        ]
        ended = asyncio.ensure_future(until(neighbour.turns))
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, *tasks):
            task.cancel()
        failures = [
            each for each in await asyncio.gather(ended, *tasks, return_exceptions=True) if isinstance(each, Exception)
        ]
    async with asyncio.timeout(_END_S):
        await neighbour.clean_up()
    if failures:
        raise ExceptionGroup("The neighbour could not do its worst.", failures)
    return neighbour.turns


async def until_ready(turns: Counter[str]) -> None:
    """Wait until each way has had a turn."""
    while not all(turns[way] for way in WAYS):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def _main(port: int, key: str, pause_s: float) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def until_left(turns: Counter[str]) -> None:
        await until_ready(turns)
        print("ready", flush=True)
        await reader.read()

    print(json.dumps(await run(port, key, WAYS, until_left, pause_s)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A tenant that does its worst.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--pause-s", type=float, default=0.0)
    options = parser.parse_args()
    lower_priority(NICE)
    uvloop.run(_main(options.port, options.key, options.pause_s))
