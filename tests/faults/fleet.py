"""The fleet: two gateways, two workers, their Redis servers and an upstream, and how each part but it is made to fail.

Real processes and real signals. The output of a part goes to a file of its own: a traceback in it is a problem.
"""

import asyncio
import json
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from shared.config.settings import Settings, load_settings
from shared.model.errors import StartupError
from shared.store.client import open_client
from shared.store.keys import Keys
from tests.faults.http import request
from tests.faults.schedule import CONNECTIONS, GATEWAYS, QUEUE, VALKEY, WORKERS, Fault
from tests.faults.servers import Server
from tests.faults.upstream import CONTINUATION
from tests.support.clocks import FakedClock, faketime_missing
from tests.support.endless import endless_keys
from tests.support.ports import reserve_port
from tests.support.processes import PYTHON, Processes, Running, as_env

LEASE_S = 2.0
DRAIN_S = 2.0
_STOP_MARGIN_S = 8.0
_RETRY_S = 0.3
_REVIVE_S = 60.0
# Reading a file at every reading of the time would cost a server under load half of its time.
_CLOCK_CHECKS_S = 1


def settings_of(data_dir: Path) -> Settings:
    """Short times, so that a run of minutes sees many recoveries."""
    return load_settings(
        api_keys=("sk-alice:alice",),
        secret="a secret for this run only",
        lease_s=LEASE_S,
        drain_s=DRAIN_S,
        worker_slots=50,
        # A job may be unlucky: this is about what its readers see.
        max_attempts=100,
        max_crashes=100,
        max_regenerated_tokens=10**9,
        upstream_continuation=CONTINUATION,
        first_token_timeout_s=4.0,
        gap_timeout_s=2.0,
        timeout_s=600.0,
        disconnect_grace_s=2.0,
        heartbeat_s=1.0,
        tail_check_s=2.0,
        redis_patience_s=5.0,
        send_timeout_s=4.0,
        data_dir=str(data_dir),
        log_level="warning",
        log_format="console",
    )


class Member(Running):
    """A gateway or a worker that can be started again at the same address."""

    def __init__(self, name: str, program: tuple[str, ...], settings: Settings, log: Path) -> None:
        url = f"http://127.0.0.1:{settings.port}" if settings.port else ""
        super().__init__(name, (*PYTHON, *program), as_env(settings), url)
        self._log = log

    def _show(self, said: bytes) -> None:
        with self._log.open("ab") as log:
            log.write(said)

    async def terminate(self) -> int | None:
        """Send SIGTERM and return its exit status; None if it did not end in time."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.died(), DRAIN_S + _STOP_MARGIN_S)
        except TimeoutError:
            await self.crash()
            return None

    async def revive(self) -> None:
        """Start it again, as a supervisor does: until it comes up."""
        async with asyncio.timeout(_REVIVE_S):
            while True:
                try:
                    await self.start()
                except StartupError:  # Redis may be away
                    await asyncio.sleep(_RETRY_S)
                else:
                    return


class Fleet:
    """All parts. `problems` collects what should never happen, as sentences."""

    def __init__(
        self, members: dict[str, Member], servers: dict[str, Server], upstream_url: str, folder: Path, key_prefix: str
    ) -> None:
        self._members = members
        self._key_prefix = key_prefix
        self._servers = servers
        self._logs = folder / "logs"
        self._upstream_port = int(upstream_url.removesuffix("/v1").rpartition(":")[2])
        self.ports = [int(members[name].url.rpartition(":")[2]) for name in GATEWAYS]
        self.problems: list[str] = []

    async def suffer(self, fault: Fault, chance: random.Random, forgot_at: list[float]) -> None:
        """Let a fault happen, and let its part come back; `forgot_at` gets the times at which jobs may be lost."""
        if fault.part in self._servers:
            await self._servers[fault.part].suffer(fault, forgot_at if fault.forgets else [])
        elif fault.part == CONNECTIONS:
            await chance.choice([*self._servers.values()]).cut(fault.kind, chance)
        else:
            await self._suffer_member(self._members[fault.part], fault)

    async def _suffer_member(self, member: Member, fault: Fault) -> None:
        if fault.kind == "freeze":
            member.freeze()
            await asyncio.sleep(fault.lasts_s)
            member.thaw()
            return
        if fault.kind == "kill":
            await member.crash()
        elif (status := await member.terminate()) != 0:
            self.problems.append(f"The {fault.part} ended with {status} when it was stopped at {fault.at_s} s.")
        await asyncio.sleep(fault.lasts_s)
        await member.revive()

    async def suffer_outage(self, fault: Fault, forgot_at: list[float]) -> None:
        """Let all servers suffer this fault at once; see `suffer`."""
        await asyncio.gather(*(server.suffer(fault, forgot_at) for server in self._servers.values()))

    async def endless_keys(self, within_s: float) -> list[str]:
        """Return a sentence if there are keys that never expire, after at most so long."""
        found: list[str] = []
        for _ in range(int(within_s / _RETRY_S)):
            found = [name for server in self._servers.values() for name in await self._endless_keys_of(server)]
            if not found:
                return []
            await asyncio.sleep(_RETRY_S)
        return [f"{len(found)} keys never expire, {', '.join(found[:5])} among them."]

    async def _endless_keys_of(self, server: Server) -> list[str]:
        async with open_client(server.url) as client:
            return await endless_keys(client, Keys(self._key_prefix))

    async def key_names(self) -> set[str]:
        """Read the names of all keys of all servers."""
        found: set[str] = set()
        for name, server in self._servers.items():
            async with open_client(server.url) as client:
                found |= {f"{name} {key.decode()}" for key in await client.keys()}
        return found

    async def open_calls(self, within_s: float) -> int:
        """Return how many upstream calls are still open after at most so long."""
        for _ in range(int(within_s / _RETRY_S)):
            if not await self._open_calls():
                return 0
            await asyncio.sleep(_RETRY_S)
        return await self._open_calls()

    async def _open_calls(self) -> int:
        return int(await self._asked("/open"))

    async def meter(self) -> dict[str, Any]:
        """Return the upstream's counts (`Meter.as_dict`)."""
        counted: dict[str, Any] = json.loads(await self._asked("/meter"))
        return counted

    async def _asked(self, path: str) -> bytes:
        async with request(self._upstream_port, "GET", path) as response:
            return await response.whole()

    def tracebacks(self) -> list[str]:
        """Return a sentence for each part that wrote one."""
        found = [(log.stem, _tracebacks_in(log)) for log in sorted(self._logs.glob("*.log"))]
        return [f"The {name} wrote {len(seen)} tracebacks, see {name}.log: {seen[0]}" for name, seen in found if seen]


def _tracebacks_in(log: Path) -> list[str]:
    """Return the error at the end of each traceback, which may be a text within a line of JSON."""
    _, *tracebacks = log.read_text("utf-8", "replace").replace("\\n", "\n").split("Traceback")
    errors = (re.search(r"^[\w.]+(: .*)?$", each.partition("\n")[2], re.MULTILINE) for each in tracebacks)
    return [error[0][:500] if error else "an error without a name" for error in errors]


async def _server(processes: Processes, folder: Path) -> Server:
    clock = None if faketime_missing else FakedClock(folder.with_suffix(".clock"), checks_s=_CLOCK_CHECKS_S)
    environment = None if clock is None else clock.environment
    return Server(await processes.valkey(folder, environment), folder, clock)


@asynccontextmanager
async def running_fleet(
    folder: Path, *, seed: int = 1, planned_faults: float = 0.0, apart: bool = False, **changes: Any
) -> AsyncIterator[Fleet]:
    """Start a fleet; everything of it ends with the block. Its files are in `folder`; `changes` are settings."""
    settings = settings_of(folder / "data").model_copy(update=changes)
    logs = folder / "logs"
    logs.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(Processes(settings))
        folders = {VALKEY: folder / "valkey", **({QUEUE: folder / "queue"} if apart else {})}
        servers = {name: await _server(processes, where) for name, where in folders.items()}
        planning = ("--seed", str(seed), "--share", str(planned_faults))
        upstream_url = await processes.upstream(*planning, module="tests.faults.upstream")
        jobs_url = servers[VALKEY].url
        urls = {"redis_url": jobs_url, "upstream_url": upstream_url}
        if apart:
            urls |= {"redis_url": servers[QUEUE].url, "stream_redis_url": jobs_url}
        own = settings.model_copy(update=urls)
        members: dict[str, Member] = {}
        for name in (*WORKERS, *GATEWAYS):
            program = ("worker",) if name in WORKERS else ("gateway", "serve")
            port = {} if name in WORKERS else {"port": reserve_port()}
            members[name] = Member(name, program, own.model_copy(update=port), logs / f"{name}.log")
            stack.push_async_callback(members[name].stop)
            await members[name].start()
        yield Fleet(members, servers, upstream_url, folder, own.key_prefix)
