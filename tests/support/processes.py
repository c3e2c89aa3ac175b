"""Real processes for tests: gateways, workers, upstreams and command lines that end with their test.

`Processes` starts them with a test's settings; `Command` is a person's `tailrace …` at a terminal. They die with this
process too, should it be killed. Not here: the run's own Valkey (valkey.py).
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from gateway.supervisor import Program
from shared.config.route_settings import ProviderSettings
from shared.config.settings import Settings
from shared.model.api_keys import ApiKey
from shared.process.child import signal_child, start_child, stop_child
from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.ports import reserve_port

START_S = 30.0
STOP_S = 10.0
TIMEOUT_S = 5.0
PYTHON = (sys.executable, "-P", "-m")
_DOOM = """
import os, signal, sys
import {module}
from {program} import {entry} as cli

async def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{module}.{method} = die
sys.exit(cli())
"""


class Running(Program):
    """A gateway or a worker as a process that a test controls.

    `url` is a gateway's address; `said` is its output since it was ready.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], url: str = "") -> None:
        super().__init__(name, argv, env, start_s=START_S, stop_s=STOP_S)
        self.url = url
        self.said = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def crash(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.kill()
        await self.died()

    async def terminated(self) -> int:
        """SIGTERM, and wait for its end and its last words; its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        async with asyncio.timeout(STOP_S):
            status = await self.died()
        await self.stop()
        return status

    def _show(self, said: bytes) -> None:
        self.said += said.decode(errors="replace")
        super()._show(said)

    async def stop(self) -> None:
        """In order; a frozen one is thawed first."""
        if self._process is not None:
            signal_child(self._process, signal.SIGCONT)
        await super().stop()


def at_peace(program: Running) -> list[dict[str, Any]]:
    """Return a program's log; check that it wrote nothing else, no traceback, and nothing at level error."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in program.said.splitlines()]
    bad = [line for line in lines if line["level"] in ("error", "critical") or "exception" in line]
    assert not bad, bad
    return lines


class Processes:
    """Processes that share a test's settings; all of them end with the `async with` block.

    Keyword arguments are settings: `await processes.worker(lease_s=1)`.
    """

    def __init__(self, settings: Settings, *, source: Path | None = None) -> None:
        """With `source`, gateways and workers run the packages of that folder in place of this checkout's."""
        self._settings = settings
        self._source = {} if source is None else {"PYTHONPATH": str(source)}
        self._started: list[Running | EmbeddedValkey | Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once, for each drains for a while; the parts that they depend on end after them.
        await asyncio.gather(*(each.stop() for each in self._started if isinstance(each, Running)))
        await asyncio.gather(*(stop_child(each, STOP_S) for each in self._started if isinstance(each, Process)))
        await asyncio.gather(*(each.stop() for each in self._started if isinstance(each, EmbeddedValkey)))

    async def gateway(self, **changes: Any) -> Running:
        """Start a gateway and wait until it is ready, at `url`."""
        port = changes.setdefault("port", reserve_port())
        program = Running("gateway", (*PYTHON, "gateway", "serve"), self._env(changes), url=f"http://127.0.0.1:{port}")
        return await self._start(program)

    async def worker(self, **changes: Any) -> Running:
        """Start a worker and wait until it is ready."""
        return await self._start(Running("worker", (*PYTHON, "worker"), self._env(changes)))

    async def doomed_worker(self, step: str, *, program: str = "worker.__main__", **changes: Any) -> Running:
        """Start a worker that SIGKILL ends when it comes to this step, as in `shared.store.queue:Queue.done`.

        `program` is the module with the worker's command line.
        """
        return await self._start(Running("worker", _doomed(step, program, "cli"), self._env(changes)))

    async def doomed_gateway(self, step: str, **changes: Any) -> Running:
        """Start a gateway that SIGKILL ends when it comes to this step."""
        port = changes.setdefault("port", reserve_port())
        argv = (*_doomed(step, "gateway.cli", "main"), "serve")
        return await self._start(Running("gateway", argv, self._env(changes), url=f"http://127.0.0.1:{port}"))

    async def upstream(self, *options: str, module: str = "tests.support.upstream") -> str:
        """Start the scripted upstream (or another module's variant) as a process; return its base URL."""
        root = Path(__file__).parents[2]
        process = await start_child(
            [sys.executable, "-m", module, *options],
            env={**os.environ, "PYTHONPATH": str(root)},
            output=PIPE,
        )
        self._started.append(process)
        assert process.stdout is not None
        return (await asyncio.wait_for(process.stdout.readline(), START_S)).decode().strip()

    async def valkey(self, data_dir: Path, environment: Mapping[str, str] | None = None) -> EmbeddedValkey:
        """Start a Valkey of this test's own, to be stopped, killed or frozen."""
        valkey = EmbeddedValkey(data_dir, environment)
        self._started.append(valkey)
        await valkey.start()
        return valkey

    async def _start(self, program: Running) -> Running:
        self._started.append(program)
        await program.start()
        return program

    def _env(self, changes: Mapping[str, Any]) -> dict[str, str]:
        return as_env(self._settings.model_copy(update=dict(changes))) | self._source


def _doomed(step: str, program: str, entry: str) -> tuple[str, ...]:
    """Return the command of a program that ends at a step."""
    module, _, method = step.partition(":")
    doom = _DOOM.format(module=module, method=method, program=program, entry=entry)
    return (sys.executable, "-P", "-c", doom)


def as_env(settings: Settings) -> dict[str, str]:
    """Return settings as the environment of a process; those at their defaults are left out."""
    values = settings.model_dump(mode="json", exclude_defaults=True) | dict(_secrets_of(settings))
    return {f"TAILRACE_{name.upper()}": _as_text(value) for name, value in values.items() if value is not None}


def _secrets_of(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The settings that no dump shows, in the form of the environment."""
    for name in ("redis_url", "stream_redis_url", "secret", "api_key", "upstream_api_key"):
        secret: SecretStr | None = getattr(settings, name)
        yield name, secret and secret.get_secret_value()
    yield "api_keys", [_entry(key) for key in settings.api_keys] or None
    if settings.providers:
        yield "providers", {name: _provider(each) for name, each in settings.providers.items()}


def _entry(key: ApiKey) -> str:
    options = [*(["admin"] if key.admin else []), *([f"lanes={'+'.join(key.lanes)}"] if key.lanes else [])]
    return ":".join((key.key.get_secret_value(), key.tenant, *options))


def _provider(provider: ProviderSettings) -> dict[str, Any]:
    key = provider.api_key and provider.api_key.get_secret_value()
    return {**provider.model_dump(mode="json", exclude_defaults=True), "api_key": key}


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


class Command:
    """A `tailrace` command in a session of its own, as at a terminal. `said` is its output so far."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.said = ""

    @classmethod
    async def run(cls, *arguments: str, env: Mapping[str, str]) -> Self:
        """Start `tailrace` with these arguments and, on top of ours, this environment."""
        process = await start_child([*PYTHON, "gateway", *arguments], env={**os.environ, **env}, output=PIPE)
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def until(self, text: str, *, times: int = 1, timeout_s: float = START_S) -> str:
        """Wait until it has written `text` so many times; all that it has said."""
        async with asyncio.timeout(timeout_s):
            while self.said.count(text) < times:
                assert await self._read(), f"It ended without saying {text!r}:\n{self.said}"
        return self.said

    async def ended(self, timeout_s: float = START_S) -> int:
        """Wait for its end; its exit status."""
        async with asyncio.timeout(timeout_s):
            while await self._read():
                pass
            return await self._process.wait()

    def press_ctrl_c(self) -> None:
        """SIGINT for the whole foreground process group, as a terminal sends it."""
        os.killpg(self.pid, signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        signal_child(self._process, number)

    async def close(self) -> None:
        """End it, if it has not ended."""
        await stop_child(self._process, STOP_S)

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        chunk = await self._process.stdout.read(64 * 1024)
        self.said += chunk.decode(errors="replace")
        return bool(chunk)


def offspring(pid: int) -> dict[int, str]:
    """Return the processes below `pid`, as process id -> command line (Linux)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name in parentheses may hold anything; the parent's id is the second field after it.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        for child in new:
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
    return found


async def gone(pids: Iterable[int], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until none of these processes runs any more (Linux); they need not be our children."""
    async with asyncio.timeout(timeout_s):
        await asyncio.gather(*(_gone(pid) for pid in pids))


async def _gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
