"""Provide the contract tests' fixtures: the core on the run's Valkey, and a separate Valkey for destructive tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.process.embedded_valkey import EmbeddedValkey
from tests.support.core import Core, open_core
from tests.support.valkey import running_valkey


@pytest.fixture
async def core(redis_url: str, key_prefix: str) -> AsyncIterator[Core]:
    """Yield the core under this test's key prefix."""
    async with open_core(redis_url, key_prefix) as opened:
        yield opened


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Yield a server for this test alone: it may be frozen, filled or killed."""
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        yield valkey


@pytest.fixture
async def own_core(own_valkey: EmbeddedValkey) -> AsyncIterator[Core]:
    """Yield the core on the test's own server."""
    async with open_core(own_valkey.url, "own", command_timeout_s=0.5) as opened:
        yield opened
