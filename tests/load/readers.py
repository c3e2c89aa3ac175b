"""Many idle readers and a frozen one: their costs to one gateway, and the check that no other caller notices.

`python -m tests.load.readers --readers 10000` (`make readers`) starts a Valkey, a gateway and a worker, opens idle
readers of silent jobs and weighs the gateway (Linux: /proc). Then a job streams megabytes to two more readers, one of
which never reads. Not here: throughput.
"""

import argparse
import asyncio
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from shared.config.settings import Settings, load_settings
from shared.model.bounds import KIB, MIB
from shared.model.events import Event, decode_frame, split_frames
from tests.support.client import HEARTBEAT, Client
from tests.support.processes import Processes, Running
from tests.support.system import proven
from tests.support.upstream import ask
from tests.support.valkey import running_valkey

BUDGET_KIB = 20.0
"""The resident memory that an idle reader may cost (design.md, Performance)."""

KEY = "sk-alice"
_PAGE_BYTES = resource.getpagesize()
_SPARE_FILES = 500
_SILENT_JOBS = 5
_CONNECTING = 200
_OPEN_S = 240.0
_FIRST = 100
_WORD = 4 * KIB
_CHOICES, _WORDS = 32, 64
_STREAM_BYTES = _CHOICES * _WORDS * _WORD
_POLL_S = 0.1


@dataclass
class Report:
    """The measurements. `failures` are sentences about each unmet requirement."""

    readers: int
    empty_mib: float = 0.0
    full_mib: float = 0.0
    opened_s: float = 0.0
    stream_mib: float = 0.0
    longest_stall_s: float = 0.0
    frozen_mib: float = 0.0
    frozen_s: float = 0.0
    heartbeat_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def reader_kib(self) -> float:
        """Return the cost of one idle reader."""
        return (self.full_mib - self.empty_mib) * MIB / KIB / self.readers

    def rows(self) -> list[tuple[str, str]]:
        """Return the table."""
        return [
            ("idle readers", f"{self.readers}, opened in {self.opened_s:.1f} s"),
            ("gateway without them", f"{self.empty_mib:.1f} MiB"),
            ("gateway with them", f"{self.full_mib:.1f} MiB"),
            ("an idle reader", f"{self.reader_kib:.1f} KiB (budget {BUDGET_KIB:g})"),
            ("then streamed, to two readers", f"{self.stream_mib:.1f} MiB"),
            ("the ordinary one: longest stall", f"{self.longest_stall_s * 1000:.0f} ms"),
            ("the frozen one: let go after", f"{self.frozen_s:.1f} s"),
            ("both, and their job, at most", f"{self.frozen_mib:.1f} MiB"),
            ("heartbeats for all idle ones within", f"{self.heartbeat_s:.1f} s"),
        ]

    def check(self, so: bool, otherwise: str) -> None:
        """Note a failure unless it is so."""
        if not so:
            self.failures.append(otherwise)


class IdleReader(asyncio.Protocol):
    """A reader that counts its heartbeats and keeps nothing."""

    __slots__ = ("_head", "_transport", "heartbeats", "lost", "started")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self.started = asyncio.get_running_loop().create_future()
        self.heartbeats = 0
        self.lost = False

    def ask(self, request: bytes) -> None:
        """Send the request."""
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """Leave."""
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.started.done():
            self.started.set_exception(exc or EOFError("The gateway closed the connection."))

    def data_received(self, data: bytes) -> None:
        if self.started.done():
            self.heartbeats += data.count(HEARTBEAT)
            return
        self._head += data
        if b"event: started\n" in self._head:
            self._head = b""
            self.started.set_result(None)


async def measure(settings: Settings, readers: int, *, rate: float) -> Report:
    """Weigh so many idle readers, then stream to an ordinary and a frozen one, `rate` deltas a second (0: unpaced).

    The settings' time-outs bound how long it takes; they need a Redis and `KEY`.
    """
    report = Report(readers)
    needed = settings.model_copy(update={"upstream_url": "scripted:", "drain_s": 0.0})
    async with Processes(needed) as processes:
        gateway, _ = await asyncio.gather(processes.gateway(), processes.worker())
        client = Client(urlsplit(gateway.url).port or 0, KEY)
        job_ids = [await submit(client, ask(fault="stall")) for _ in range(_SILENT_JOBS)]
        async with AsyncExitStack() as stack:
            # The first readers have costs that the others don't; they stay, so that no other reader gets their memory.
            await stack.enter_async_context(idle_readers(client.port, job_ids, _FIRST))
            report.empty_mib = resident(gateway) / MIB
            began = time.monotonic()
            idle = await stack.enter_async_context(idle_readers(client.port, job_ids, readers))
            report.opened_s = time.monotonic() - began
            report.full_mib = resident(gateway) / MIB
            await stream(report, gateway, client, rate, within_s=3 * settings.send_timeout_s + 5)
            await beat(report, idle, within_s=2 * settings.heartbeat_s + 5)
            report.check(not any(each.lost for each in idle), "Idle readers were cut off.")
    report.check(
        report.reader_kib <= BUDGET_KIB,
        f"An idle reader costs {report.reader_kib:.1f} KiB; the budget is {BUDGET_KIB:g}.",
    )
    return report


async def submit(client: Client, body: dict[str, Any]) -> str:
    """Submit a job; return its id."""
    answer = await client.post("/v1/jobs", body)
    assert answer.status == 202, answer.body
    job_id: str = answer.json()["id"]
    return job_id


@asynccontextmanager
async def idle_readers(port: int, job_ids: list[str], count: int) -> AsyncIterator[list[IdleReader]]:
    """Open so many readers of these jobs; all have seen their job start."""
    idle: list[IdleReader] = []
    room = asyncio.Semaphore(_CONNECTING)

    async def connect(job_id: str) -> None:
        async with room:
            _, reader = await asyncio.get_running_loop().create_connection(IdleReader, "127.0.0.1", port)
            idle.append(reader)
            reader.ask(request(job_id))
            await reader.started

    try:
        async with asyncio.timeout(_OPEN_S):
            await asyncio.gather(*(connect(job_ids[number % len(job_ids)]) for number in range(count)))
        yield idle
    finally:
        for reader in idle:
            reader.close()


def request(job_id: str) -> bytes:
    """Return a request for a job's events."""
    return (
        f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: tailrace.test\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    )


async def stream(report: Report, gateway: Running, client: Client, rate: float, *, within_s: float) -> None:
    """Run one job with one reader that reads it and one that does not."""
    before = resident(gateway)
    text = " ".join("x" * (_WORD - 1) for _ in range(_WORDS))
    job_id = await submit(client, {**ask(text=text, rate=rate), "n": _CHOICES})
    began = time.monotonic()
    with socket.socket() as frozen:
        # As small as possible: the bytes that the kernel takes are not held by the gateway.
        frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        frozen.setblocking(False)
        await asyncio.get_running_loop().sock_connect(frozen, ("127.0.0.1", client.port))
        await asyncio.get_running_loop().sock_sendall(frozen, request(job_id))
        reading = asyncio.create_task(read_all(report, client, job_id))
        most = before
        released = False
        while not (reading.done() and released) and time.monotonic() - began < within_s + _OPEN_S:
            most = max(most, resident(gateway))
            if not released and not is_held(client.port, frozen.getsockname()[1]):
                released = True
                report.frozen_s = time.monotonic() - began
            await asyncio.sleep(_POLL_S)
        report.check(released, "The frozen reader was not let go.")
    report.frozen_mib = (most - before) / MIB
    report.check(report.frozen_mib <= _STREAM_BYTES / MIB / 2, f"The frozen reader cost {report.frozen_mib:.1f} MiB.")
    if not reading.done():
        reading.cancel()
        report.failures.append("The ordinary reader is still waiting.")
        return
    said = texts_of(proven(reading.result()).deltas)
    report.check(said == dict.fromkeys(range(_CHOICES), text), "The ordinary reader's text is not exact.")


async def read_all(report: Report, client: Client, job_id: str) -> list[Event]:
    """All events of a job, and the longest wait for a piece of them once the job ran."""
    body: list[bytes] = []
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        last = 0.0
        while data := await response.chunk():
            body.append(data)
            now = time.monotonic()
            report.longest_stall_s = max(report.longest_stall_s, now - (last or now))
            last = now if b"event: delta\n" in data or last else 0.0
        assert response.complete, "the ordinary reader was cut off"
    whole = b"".join(body)
    report.stream_mib = len(whole) / MIB
    return [decode_frame(frame) for frame in split_frames(whole.replace(HEARTBEAT, b""))]


def texts_of(deltas: list[Event]) -> dict[int, str]:
    """Return the text of each choice."""
    said: dict[int, list[str]] = {}
    for delta in (delta.json() for delta in deltas):
        said.setdefault(delta.get("index", 0), []).append(delta.get("content", ""))
    return {index: "".join(parts) for index, parts in said.items()}


async def beat(report: Report, idle: list[IdleReader], *, within_s: float) -> None:
    """Wait until each idle reader has had another heartbeat."""
    before = [reader.heartbeats for reader in idle]
    began = time.monotonic()
    with suppress(TimeoutError):
        await until(lambda: all(r.heartbeats > then for r, then in zip(idle, before, strict=True)), within_s)
    report.heartbeat_s = time.monotonic() - began
    silent = sum(reader.heartbeats <= then for reader, then in zip(idle, before, strict=True))
    report.check(not silent, f"{silent} idle readers had no heartbeat.")


async def until(so: Callable[[], bool], timeout_s: float) -> None:
    """Check at intervals: heartbeats come in one piece for each of thousands of readers."""
    async with asyncio.timeout(timeout_s):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)


def resident(program: Running) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{program.pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def is_held(server_port: int, client_port: int) -> bool:
    """Return whether the server's end of this connection still belongs to a process."""
    local, remote = f":{server_port:04X}", f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1].endswith(local) and columns[2].endswith(remote):
            return columns[9] != "0"
    return False


def allow_files(readers: int) -> bool:
    """Let this process, and those it starts, have a socket for each reader; whether the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = readers + _FIRST + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return True


async def main(readers: int) -> int:
    """Measure, print, judge."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_valkey(Path(folder)) as valkey:
            settings = load_settings(
                redis_url=valkey.url,
                api_keys=(f"{KEY}:alice",),
                first_token_timeout_s=600.0,
                send_timeout_s=5.0,
                log_level="warning",
            )
            report = await measure(settings, readers, rate=200)
    for name, value in report.rows():
        print(f"{name:<36} {value}")
    for failure in report.failures:
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.load.readers", description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=10_000)
    options = parser.parse_args()
    if not allow_files(options.readers):
        sys.exit(f"This system allows no {options.readers} open files (ulimit -Hn): try fewer --readers.")
    for name in [name for name in os.environ if name.startswith(("TAILRACE_", "OPENAI_"))]:
        del os.environ[name]
    sys.exit(uvloop.run(main(options.readers)))
