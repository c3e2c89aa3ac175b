"""A gateway, a worker and a raw upstream in the test's own process, for all tests of one module."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        """Return the gateway's address."""
        return f"http://127.0.0.1:{self.client.port}"


def routes() -> dict[str, Any]:
    """Return the routes of a stage: `*` asks the main provider, up to three times.

    The models `once-<number>` are asked once; `chain-<number>` have the other provider behind the main one.
    """
    found: dict[str, Any] = {"*": {"chain": [MAIN]}}
    for number in range(ROUTES):
        found[f"{ONCE}-{number}"] = {"chain": [MAIN], "max_attempts": 1}
        found[f"{CHAIN}-{number}"] = {"chain": [MAIN, OTHER]}
    return found


@asynccontextmanager
async def running_stage(redis_url: str, data_dir: Path, **providers: dict[str, Any]) -> AsyncIterator[Stage]:
    """Start a running stage. `providers` are further ones, by name; a model of the same name is asked of each."""
    async with running_raw_upstream() as upstream:
        every = {name: {"base_url": upstream.base_url(name), **more} for name, more in _every(providers).items()}
        settings = short_settings(
            redis_url,
            fresh_prefix(),
            data_dir,
            upstream_url=None,
            providers=every,
            routes=routes() | {name: {"chain": [name]} for name in providers},
            max_attempts=3,
        )
        async with running_system(settings) as system, running_worker(settings):
            yield Stage(system, upstream)


def _every(providers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {MAIN: {}, OTHER: {}, **providers}
