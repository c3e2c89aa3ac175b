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


def routes(*names: str) -> dict[str, Any]:
    """The routes of a stage: `*` asks the main provider, up to three times.

    For each name there are two more models: `once-<name>` is asked once, `chain-<name>` has the other provider behind
    the main one.
    """
    found: dict[str, Any] = {"*": {"chain": [MAIN]}}
    for name in names:
        found[f"{ONCE}-{name}"] = {"chain": [MAIN], "max_attempts": 1}
        found[f"{CHAIN}-{name}"] = {"chain": [MAIN, OTHER]}
    return found


@asynccontextmanager
async def running_stage(redis_url: str, data_dir: Path, *names: str, **main: Any) -> AsyncIterator[Stage]:
    """A stage with the routes of these names; `main` are further settings of the main provider."""
    async with running_raw_upstream() as upstream:
        providers = {
            MAIN: {"base_url": upstream.base_url(MAIN), **main},
            OTHER: {"base_url": upstream.base_url(OTHER)},
        }
        settings = _settings(redis_url, data_dir, providers, routes(*names))
        async with running_system(settings) as system, running_worker(settings):
            yield Stage(system, upstream)


def _settings(redis_url: str, data_dir: Path, providers: dict[str, Any], routes: dict[str, Any]) -> Settings:
    return short_settings(
        redis_url, fresh_prefix(), data_dir, upstream_url=None, providers=providers, routes=routes, max_attempts=3
    )
