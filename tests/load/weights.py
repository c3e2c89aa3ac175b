"""The memory of a gateway under the worst of each bound, item by item, beside the README's table.

`python -m tests.load.weights` (`make weights`) starts a Valkey, and a fresh gateway for each kind of item. The gateway
holds many items at once, and the growth of its resident memory is divided by their number (Linux: /proc). For items
that last for a moment, the peak counts. Not here: the lifetime of
idle readers, and the cost of a frozen one for others (readers.py).
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from gateway.preparation.job import prepare_job
from gateway.preparation.response import prepare_response
from shared.config.settings import Settings, load_settings
from shared.model.bounds import BODY_BYTES, CONTAINERS, ENTRY_BYTES, KIB, LOG_BYTES, PAGE_BYTES, READER_BYTES
from shared.model.errors import InvalidRequest
from shared.process.call_process import CallProcess
from tests.load.readers import KEY, allow_files, idle_readers, request, resident
from tests.support.client import Client
from tests.support.heads import head
from tests.support.log_writer import JobSide, job_side
from tests.support.processes import Processes, Running
from tests.support.valkey import running_valkey

TOLERANCE: Final = 0.15
_DELTA: Final = "x" * 4_000
_AT_ONCE: Final = 16
"""Deltas of one entry: nearly `ENTRY_BYTES`."""
_SETTLE_S: Final = 0.2
_HEAD: Final = f"Host: tailrace.test\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"


@dataclass
class Place:
    """A fresh gateway, and the parts that put weight on it."""

    gateway: Running
    client: Client
    job_side: JobSide
    stack: AsyncExitStack
    """Closes the connections that it holds."""

    @property
    def port(self) -> int:
        """The gateway's port."""
        return self.client.port

    async def connect(self, sent: bytes = b"", *, small: bool = False) -> socket.socket:
        """Open a connection that sends something and reads nothing; a `small` one takes as little as it can."""
        sock = self.stack.enter_context(socket.socket())
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        if sent:
            await loop.sock_sendall(sock, sent)
        return sock

    async def settled(self) -> int:
        """Wait until memory grows no more; return it."""
        last, same = resident(self.gateway), 0
        while same < 3:
            await asyncio.sleep(_SETTLE_S)
            now = resident(self.gateway)
            same = same + 1 if now - last < 64 * KIB else 0
            last = now
        return last


async def connections(place: Place, count: int) -> None:
    """Open connections that ask for nothing."""
    for _ in range(count):
        await place.connect()


async def idle(place: Place, count: int) -> None:
    """Read silent jobs."""
    jobs = [(await place.job_side.started()).job_id for _ in range(5)]
    await place.stack.enter_async_context(idle_readers(place.port, jobs, count))


async def frozen(place: Place, count: int) -> None:
    """Read busy jobs, each its own, and take nothing: a page is on its way, and live frames wait."""
    entries = (PAGE_BYTES + ENTRY_BYTES) // (_AT_ONCE * len(_DELTA)) + 1
    for _ in range(count):
        writer = await place.job_side.started()
        for _ in range(entries):
            await writer.say(*[_DELTA] * _AT_ONCE)
        await place.connect(request(writer.job_id), small=True)
        await asyncio.sleep(_SETTLE_S / 4)
        for _ in range(READER_BYTES // len(_DELTA) - 3):
            await writer.say(_DELTA)


async def bodies(place: Place, count: int) -> None:
    """Send all of a body but its last byte."""
    head = f"POST /v1/jobs HTTP/1.1\r\n{_HEAD}Content-Length: {BODY_BYTES}\r\n\r\n".encode()
    for _ in range(count):
        await place.connect(head + b" " * (BODY_BYTES - 1))


async def callers(place: Place, count: int) -> None:
    """Wait for whole completions with logs as long as they may be."""
    body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "a"}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{_HEAD}Content-Length: {len(body)}\r\n\r\n"
    for _ in range(count):
        await place.connect((head + body).encode())
        writer = await place.job_side.take()
        for _ in range(LOG_BYTES // (_AT_ONCE * len(_DELTA))):
            await writer.say(*[_DELTA] * _AT_ONCE)


async def decoded(place: Place, count: int) -> None:
    """Send bodies with as many lists as one may have, padded to the largest body."""
    lists: dict[str, Any] = {
        "model": "mock",
        "messages": [{"role": "user", "content": "a"}],
        "x": [[]] * (CONTAINERS - 9),
    }
    padding = BODY_BYTES - len(json.dumps({**lists, "y": ""}).encode())
    for _ in range(count):
        answer = await place.client.post("/v1/jobs", {**lists, "y": "y" * padding})
        assert answer.status == 202, answer.body


async def references(place: Place, count: int) -> None:
    """Refer to an answer of many small tokens, as large as all that a request may refer to."""
    writer = await place.job_side.started()
    each = len(b'{"content":" abc"}')
    for _ in range(BODY_BYTES // each // 1000 - 1):
        await writer.say(*[" abc"] * 1000)
    await writer.complete()
    reference = {"type": "item_reference", "id": f"{writer.job_id.replace('job_', 'msg_')}_0"}
    for _ in range(count):
        answer = await place.client.post("/v1/responses", {"model": "mock", "background": True, "input": [reference]})
        assert answer.status == 200, answer.body


@dataclass(frozen=True)
class Kind:
    """A kind of item: `kib` is the weight of one by the README, `count` the number that is weighed."""

    name: str
    kib: float
    count: int
    hold: Callable[[Place, int], Awaitable[None]]
    passing: bool = False
    """It lasts for a moment: the highest rise is weighed, of all together, and is `kib` at most."""

    def row(self, kib: float) -> str:
        """Return the README's row with this weight."""
        return f"| {self.name} | {'at most ' if self.passing else ''}{shown(kib)} |"


KINDS: Final = (
    Kind("connection that asks for nothing", 4.7, 2_000, connections),
    Kind("idle reader", 18.6, 5_000, idle),
    Kind("reader that freezes, of a busy job of its own", 590, 100, frozen),
    Kind("body of 1 MiB that lacks its last byte", 1.1 * KIB, 100, bodies),
    Kind("caller who waits for a whole completion of 16 MiB", 17.4 * KIB, 8, callers),
    Kind("body with 65,536 lists, at its peak", 3 * KIB, 3, decoded, passing=True),
    Kind("references to 1 MiB of small tokens, at their peak", 9 * KIB, 3, references, passing=True),
)


CHILD_KIB: Final = 29 * KIB
"""The README's weight of the process that reads large bodies, by itself."""
CHILD_PEAK_KIB: Final = 55 * KIB
"""The same at its peak, with the body of 1 MiB that takes most."""


@dataclass(frozen=True)
class ChildWeight:
    """The weight of the process that reads large bodies, by itself and at its peak, as it was measured."""

    kib: float
    peak_kib: float

    @property
    def is_as_told(self) -> bool:
        """Whether the README's figures are right, within the tolerance."""
        is_right = abs(self.kib - CHILD_KIB) <= TOLERANCE * CHILD_KIB
        return is_right and self.peak_kib - CHILD_PEAK_KIB <= TOLERANCE * CHILD_PEAK_KIB


async def weigh_child() -> ChildWeight:
    """Weigh the process after small bodies, and with the body that has most lists: it is refused for them."""
    child, message = CallProcess(), {"role": "user", "content": "a"}
    try:
        await child.call(prepare_job, json.dumps({"model": "m", "messages": [message]}).encode(), head())
        await child.call(prepare_response, json.dumps({"model": "m", "input": "a"}).encode(), head(), BODY_BYTES, [])
        assert child.pid is not None
        kib = _status(child.pid, "VmRSS")
        worst = json.dumps({"model": "m", "messages": [message], "x": [[]] * (BODY_BYTES // 4 - KIB)}).encode()
        with suppress(InvalidRequest):
            await child.call(prepare_job, worst, head())
        return ChildWeight(kib, _status(child.pid, "VmHWM"))
    finally:
        await child.close()


@dataclass(frozen=True)
class Weight:
    """The weight of one item of a kind, as it was measured."""

    kind: Kind
    kib: float

    @property
    def is_as_told(self) -> bool:
        """Whether the README's figure is right, within the tolerance."""
        over = self.kib - self.kind.kib
        return (over if self.kind.passing else abs(over)) <= TOLERANCE * self.kind.kib


def shown(kib: float) -> str:
    """A weight with its unit."""
    return f"{kib / KIB:.3g} MiB" if kib >= KIB else f"{kib:.3g} KiB"


async def weigh(settings: Settings, kind: Kind, *, share: float = 1.0) -> Weight:
    """Hold a share of the items of a kind in a fresh gateway."""
    count = max(1, int(kind.count * share))
    async with _place(settings) as place:
        # The first items load the parts that all later ones use.
        await kind.hold(place, max(1, count // 20))
        before = await place.settled()
        if kind.passing:
            _forget_peak(place.gateway)
        await kind.hold(place, count)
        after = _peak(place.gateway) if kind.passing else await place.settled()
        return Weight(kind, (after - before) / KIB / (1 if kind.passing else count))


@asynccontextmanager
async def _place(settings: Settings) -> AsyncIterator[Place]:
    # No item is broken off meanwhile.
    needed = settings.model_copy(update={"drain_s": 0.0, "send_timeout_s": 300.0, "timeout_s": 600.0})
    async with job_side(needed) as opened, Processes(needed) as processes:
        gateway = await processes.gateway()
        async with AsyncExitStack() as stack:
            yield Place(gateway, Client(urlsplit(gateway.url).port or 0, KEY), opened, stack)


def _forget_peak(gateway: Running) -> None:
    Path(f"/proc/{gateway.pid}/clear_refs").write_text("5")


def _peak(gateway: Running) -> int:
    return KIB * _status(gateway.pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    """Read a line of a process's memory (Linux), in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")))


async def main(names: list[str]) -> int:
    """Weigh, print the README's rows, judge."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        async with running_valkey(Path(folder)) as valkey:
            settings = load_settings(
                redis_url=valkey.url, api_keys=(f"{KEY}:alice",), secret="s" * 32, log_level="error"
            )
            for kind in KINDS:
                if names and not any(name in kind.name for name in names):
                    continue
                weight = await weigh(settings, kind)
                wrong += not weight.is_as_told
                reported = "" if weight.is_as_told else f"  README: {shown(kind.kib)}"
                print(kind.row(weight.kib) + reported, flush=True)
    if not names:
        child = await weigh_child()
        wrong += not child.is_as_told
        print(f"The process for large bodies: {shown(child.kib)}, at its peak {shown(child.peak_kib)}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.load.weights", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of kinds' names; all if there are none")
    options = parser.parse_args()
    if not allow_files(max(kind.count for kind in KINDS)):
        sys.exit("This system allows too few open files (ulimit -Hn).")
    sys.exit(uvloop.run(main(options.names)))
