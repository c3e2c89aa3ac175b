"""The testbed: Valkey, the mock upstream, a gateway and workers, each a process of its own, and their costs.

tests/support/processes.py starts and ends the parts. Not here: load, rows.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis

from shared.config.settings import Settings, load_settings
from shared.model.api_keys import parse_api_key
from shared.process.child import start_child, stop_child
from tests.load.caller import Caller
from tests.load.generator import Asking, chat, in_turn, native, responses, ui
from tests.support.processes import START_S, STOP_S, Processes, Running
from tests.support.valkey import fresh_prefix

KEY: Final = "sk-bench"
NEIGHBOUR_KEY: Final = "sk-neighbour"
SLOTS: Final = 1000
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Peer:
    """Another OpenAI-compatible gateway, that is run in front of the same mock."""

    url: str
    key: str
    model: str

    def caller(self) -> Caller:
        """Return a caller of this gateway.

        Raises:
            ValueError: it is not on this machine.
        """
        url = urlsplit(self.url)
        if url.scheme != "http" or url.hostname not in ("127.0.0.1", "localhost") or url.port is None:
            raise ValueError("BENCH_PEER must be like http://127.0.0.1:4000/v1: no load leaves this machine.")
        return Caller(url.port, self.key, base=url.path.rstrip("/").removesuffix("/v1"), model=self.model)


@dataclass
class LoadTestbed:
    """The measured parts, and their callers.

    `asking` has the ways to ask for a stream, the direct one first; `dialects` all those of Tailrace, the native one
    first.
    """

    upstream: Caller
    tailrace: Caller
    asking: dict[str, Asking]
    dialects: dict[str, Asking]
    pids: dict[str, list[int]]
    """Process ids by part: `gateway` (all gateways together), `worker` (likewise), `valkey`."""
    redis_url: str
    processes: Processes
    callers: list[Caller]

    async def fresh_gateway(self) -> tuple[Caller, int]:
        """One more gateway, that nothing has used yet; its process id."""
        gateway = await self.processes.gateway()
        caller = _caller_of(gateway)
        self.callers.append(caller)
        return caller, gateway.pid

    async def small_fleet(self, *, slots: int) -> tuple[Caller, int]:
        """Another gateway and another worker with so many slots, on keys of their own; the worker's process id."""
        own = fresh_prefix()
        gateway, worker = await asyncio.gather(
            self.processes.gateway(key_prefix=own), self.processes.worker(key_prefix=own, worker_slots=slots)
        )
        caller = _caller_of(gateway)
        self.callers.append(caller)
        return caller, worker.pid

    async def shared_fleet(self) -> "SharedFleet":
        """Another gateway and another worker for two tenants, at the default settings, on keys of their own."""
        default = Settings.model_fields["worker_slots"].default
        keys = [parse_api_key(f"{key}:{key}") for key in (KEY, NEIGHBOUR_KEY)]
        changes: dict[str, Any] = {"key_prefix": fresh_prefix(), "api_keys": keys, "worker_slots": default}
        changes["log_level"] = "error"  # dead letters are warnings
        gateway, worker = await asyncio.gather(self.processes.gateway(**changes), self.processes.worker(**changes))
        caller = _caller_of(gateway)
        self.callers.append(caller)
        return SharedFleet(caller, gateway, worker)

    async def redis_calls(self) -> "RedisCalls":
        """Read how many commands Valkey has processed until now."""
        async with Redis.from_url(self.redis_url) as client:
            commands: int = (await client.info("stats"))["total_commands_processed"]
            stats = await client.info("commandstats")
        functions: int = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("fcall", "fcall_ro"))
        return RedisCalls(commands, functions)

    def meter(self) -> "Meter":
        """Measures the parts' CPU time."""
        return Meter(lambda: {part: sum(map(cpu_s, pids)) for part, pids in self.pids.items()})


@dataclass(frozen=True)
class SharedFleet:
    """A fleet of two tenants, and how the first one calls it."""

    caller: Caller
    gateway: Running
    worker: Running


@dataclass(frozen=True)
class RedisCalls:
    """Commands that a Valkey has processed, those within functions too, and calls of functions."""

    commands: int
    functions: int

    def __sub__(self, other: "RedisCalls") -> "RedisCalls":
        return RedisCalls(self.commands - other.commands, self.functions - other.functions)


class Meter:
    """CPU seconds by part, between the first call of `sample` and the last."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read = read
        self._samples: list[dict[str, float]] = []

    def sample(self) -> None:
        """Read now."""
        self._samples.append(self._read())

    @property
    def spent_s(self) -> dict[str, float]:
        """Return the CPU time that each part has spent."""
        first, last = self._samples[0], self._samples[-1]
        return {part: last[part] - first[part] for part in first}


@asynccontextmanager
async def running_testbed(
    data_dir: Path,
    *,
    workers: int = 1,
    gateways: int = 1,
    peer: Peer | None = None,
    upstream_port: int = 0,
    metrics: bool = True,
) -> AsyncIterator[LoadTestbed]:
    """All parts, ready; they end with the block."""
    settings = load_settings(
        api_keys=(f"{KEY}:bench",),
        secret="a secret for the bench only",
        worker_slots=SLOTS,
        metrics=metrics,
        data_dir=str(data_dir),
        log_level="warning",
        log_format="json",
    )
    async with AsyncExitStack() as stack:
        valkey = await (await stack.enter_async_context(Processes(settings))).valkey(data_dir)
        mock_url = await stack.enter_async_context(_mock_process(upstream_port))
        settings = settings.model_copy(update={"redis_url": valkey.url, "upstream_url": mock_url})
        processes = await stack.enter_async_context(Processes(settings))
        entered = [await processes.gateway() for _ in range(gateways)]
        worked = [await processes.worker() for _ in range(workers)]
        upstream, entries = Caller(int(urlsplit(mock_url).port or 0)), [_caller_of(gateway) for gateway in entered]
        dialects = {
            name: in_turn([dialect(caller) for caller in entries])
            for name, dialect in (("native", native), ("chat", chat), ("responses", responses), ("ui", ui))
        }
        asking = {"direct": chat(upstream), "chat": dialects["chat"], "native": dialects["native"]}
        peer_caller = peer.caller() if peer else None
        if peer_caller is not None:
            asking["peer"] = chat(peer_caller)
        assert valkey.pid is not None
        started = {"gateway": entered, "worker": worked}
        pids = {part: [process.pid for process in parts] for part, parts in started.items()} | {"valkey": [valkey.pid]}
        callers = [caller for caller in (upstream, *entries, peer_caller) if caller is not None]
        testbed = LoadTestbed(upstream, entries[0], asking, dialects, pids, valkey.url, processes, callers)
        try:
            yield testbed
        finally:
            for caller in testbed.callers:
                caller.close()


@asynccontextmanager
async def _mock_process(port: int) -> AsyncIterator[str]:
    argv = [sys.executable, "-m", "tests.load.mock_upstream", "--port", str(port)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = await start_child(argv, env=env, output=PIPE)
    try:
        assert process.stdout is not None
        said = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode().strip()
        if not said.startswith("http"):
            raise RuntimeError(f"The mock upstream did not start: {said}")
        yield said
    finally:
        await stop_child(process, STOP_S)


def _caller_of(gateway: Running) -> Caller:
    return Caller(int(urlsplit(gateway.url).port or 0), KEY)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, all its threads, user and system (Linux), in seconds; to a tick, 10 ms."""
    # The name in parentheses may hold anything; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
