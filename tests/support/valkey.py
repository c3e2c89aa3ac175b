"""The Valkey of the tests: one embedded server for the whole run, a key prefix for each test."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from shared.process.embedded_valkey import EmbeddedValkey


@asynccontextmanager
async def running_valkey(data_dir: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[EmbeddedValkey]:
    """A server that ends with the block; should this process be killed, the kernel ends it."""
    valkey = EmbeddedValkey(data_dir, environment)
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.stop()


def fresh_prefix() -> str:
    """Make a key prefix that was not used before. For property tests, which need one for each example."""
    return f"test-{secrets.token_hex(6)}"
