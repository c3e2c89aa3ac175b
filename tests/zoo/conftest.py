"""Start a real Tailrace in front of the strict upstream, and the clients' processes, started once in a run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.config.route_settings import ProviderSettings, RouteSettings
from shared.config.settings import load_settings
from shared.model.routes import DeveloperRole
from tests.support.processes import Processes
from tests.support.valkey import fresh_prefix
from tests.zoo.catalog import CLIENTS, Client
from tests.zoo.session import Session, environment_of
from tests.zoo.upstream import ALIASES, MODELS

KEY = "sk-zoo"


_SIGNS = {"passed": "ok", "failed": "FAILED", "error": "FAILED", "skipped": "skipped", "xfailed": "limit"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table: for each client and function, how often it went well, and with which models it did not."""
    table: dict[str, dict[str, list[str]]] = {}
    for outcome, sign in _SIGNS.items():
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" or outcome in ("error", "skipped"):
                properties = dict(report.user_properties)
                if "client" in properties:
                    cell = table.setdefault(properties["client"], {}).setdefault(properties["function"], [])
                    cell.append(sign if sign == "ok" else f"{sign}: {properties['model']}")
    releases = {client.name: client.release for client in CLIENTS}
    for client, cells in sorted(table.items()):
        terminalreporter.section(f"{client} ({releases[client]})", "-")
        for function, signs in cells.items():
            bad = sorted(sign for sign in signs if sign != "ok")
            terminalreporter.line(f"{function:14} {signs.count('ok')} of {len(signs)}  {', '.join(bad)}")


def routing_of(upstream_url: str) -> dict[str, Any]:
    """Return settings that make each of the upstream's models a provider of its own, as its vendor would be.

    That Mistral refuses `stream_options` is not among them: Tailrace finds that out.
    """
    routes = {name: RouteSettings.model_validate({"chain": [name]}) for name in MODELS}
    aliases = {
        alias: RouteSettings.model_validate({"chain": [{"provider": name, "model": name}]})
        for alias, name in ALIASES.items()
    }
    return {
        "providers": {
            name: ProviderSettings(
                base_url=upstream_url,
                api_key=SecretStr("none"),
                streaming=vendor.streams,
                developer_role=None if "developer" in vendor.roles else DeveloperRole.SYSTEM,
            )
            for name, (vendor, _) in MODELS.items()
        },
        "routes": routes | aliases,
    }


class Zoo:
    """The running Tailrace and its upstream; clients are started as they are needed."""

    def __init__(self, gateway_url: str, upstream_url: str, home: Path, stack: AsyncExitStack) -> None:
        self.gateway_url = gateway_url
        self.upstream_url = upstream_url
        self._home = home
        self._stack = stack
        self._sessions: dict[tuple[str, bool], Session] = {}

    async def session(self, client: Client, *, direct: bool = False) -> Session:
        """Return the client's process; `direct`: one that speaks to the upstream, without Tailrace between them."""
        if (found := self._sessions.get((client.name, direct))) is not None:
            return found
        base_url = self.upstream_url if direct else f"{self.gateway_url}/v1"
        home = self._home / f"{client.name}{'-direct' if direct else ''}"
        home.mkdir()
        session = Session(client.program, environment_of(base_url, KEY, home), home / "stderr")
        self._sessions[client.name, direct] = await self._stack.enter_async_context(session)
        return session

    async def forget(self) -> None:
        """Forget the requests that the upstream has seen."""
        async with httpx2.AsyncClient() as http:
            await http.delete(self.upstream_url.removesuffix("/v1") + "/requests")

    async def requests(self) -> list[dict[str, Any]]:
        """Return the requests that the upstream has seen, with status and error of their answers."""
        async with httpx2.AsyncClient() as http:
            seen: list[dict[str, Any]] = (await http.get(self.upstream_url.removesuffix("/v1") + "/requests")).json()
        return seen


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def zoo(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Zoo]:
    """Gateway, worker and upstream."""
    settings = load_settings(
        redis_url=redis_url,
        key_prefix=fresh_prefix(),
        api_keys=(f"{KEY}:zoo",),
        secret="a secret for tests only",
        data_dir=str(tmp_path_factory.mktemp("data")),
        log_level="warning",
        retention_s=600.0,
    )
    async with Processes(settings) as processes, AsyncExitStack() as stack:
        upstream_url = await processes.upstream(module="tests.zoo.upstream")
        routing = routing_of(upstream_url)
        gateway, _ = await asyncio.gather(processes.gateway(**routing), processes.worker(**routing))
        yield Zoo(gateway.url, upstream_url, tmp_path_factory.mktemp("homes"), stack)
