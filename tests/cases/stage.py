"""A gateway, a worker and a raw upstream in the test's own process, for all tests of one module."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.settings import Settings
from tests.support.client import Client
from tests.support.raw_upstream import MAIN, OTHER, RawUpstream, running_raw_upstream
from tests.support.short_settings import short_settings
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import fresh_prefix

ONCE, CHAIN = "once", "chain"
ROUTES = 200
"""So many models of each kind a module may use: each test needs one, since it has a circuit of its own."""


@dataclass(frozen=True)
class Stage:
    """A running system and its upstream."""

    system: System
    upstream: RawUpstream

    @property
    def client(self) -> Client:
        """Alice."""
        return self.system.client

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.client.port}"


def routes() -> dict[str, Any]:
    """The routes of a stage: `*` asks the main provider, up to three times.

    The models `once-<number>` are asked once; `chain-<number>` have the other provider behind the main one.
    """
    found: dict[str, Any] = {"*": {"chain": [MAIN]}}
    for number in range(ROUTES):
        found[f"{ONCE}-{number}"] = {"chain": [MAIN], "max_attempts": 1}
        found[f"{CHAIN}-{number}"] = {"chain": [MAIN, OTHER]}
    return found


@asynccontextmanager
async def running_stage(redis_url: str, data_dir: Path, **main: Any) -> AsyncIterator[Stage]:
    """A running stage; `main` are further settings of the main provider."""
    async with running_raw_upstream() as upstream:
        providers = {
            MAIN: {"base_url": upstream.base_url(MAIN), **main},
            OTHER: {"base_url": upstream.base_url(OTHER)},
        }
        settings = _settings(redis_url, data_dir, providers, routes())
        async with running_system(settings) as system, running_worker(settings):
            yield Stage(system, upstream)


def _settings(redis_url: str, data_dir: Path, providers: dict[str, Any], routes: dict[str, Any]) -> Settings:
    return short_settings(
        redis_url, fresh_prefix(), data_dir, upstream_url=None, providers=providers, routes=routes, max_attempts=3
    )
