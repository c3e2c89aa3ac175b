"""States in which a real server refuses commands, each with the first word of its answer and a way out of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from redis.exceptions import RedisError

from shared.store.client import Client, open_client

Refusing = Callable[[Client, str, Path], AbstractAsyncContextManager[None]]
"""Given a client, its URL and the server's folder: refuse while the block runs."""


@asynccontextmanager
async def demoted(client: Client, _: str, __: Path) -> AsyncIterator[None]:
    """A primary that has become a replica."""
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def cut_off(client: Client, url: str, folder: Path) -> AsyncIterator[None]:
    """A replica that has lost its primary."""
    await client.config_set("replica-serve-stale-data", "no")
    async with demoted(client, url, folder):
        yield


@asynccontextmanager
async def disk_fails(client: Client, _: str, folder: Path) -> AsyncIterator[None]:
    """A server that could not write its last snapshot."""
    snapshot = folder / (await client.config_get("dbfilename"))["dbfilename"]
    snapshot.unlink(missing_ok=True)
    (snapshot / "a folder in its place").mkdir(parents=True)
    await client.config_set("save", "3600 1000000")
    await client.execute_command("BGSAVE")
    async with asyncio.timeout(5):
        while (await client.info("persistence"))["rdb_last_bgsave_status"] == "ok":
            pass
    try:
        yield
    finally:
        await client.config_set("save", "")
        await client.config_set("stop-writes-on-bgsave-error", "no")


@asynccontextmanager
async def without_replicas(client: Client, _: str, __: Path) -> AsyncIterator[None]:
    """A server that writes only if its replicas are there."""
    await client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        await client.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def busy(client: Client, url: str, _: Path) -> AsyncIterator[None]:
    """A server in which a script does not end."""
    await client.config_set("busy-reply-threshold", 1)
    async with open_client(url, command_timeout_s=None) as other:
        script = asyncio.create_task(other.execute_command("EVAL", "while true do end", 0))
        try:
            async with asyncio.timeout(5):
                while not await _refuses(client):
                    pass
            yield
        finally:
            await client.execute_command("SCRIPT", "KILL")
            await asyncio.wait([script])
            script.exception()


async def _refuses(client: Client) -> bool:
    try:
        await client.ping()
    except RedisError:
        return True
    return False


@asynccontextmanager
async def without_the_right(client: Client, _: str, __: Path) -> AsyncIterator[None]:
    """A server with a user that may not call functions."""
    await client.execute_command("ACL", "SETUSER", "default", "-fcall")
    try:
        yield
    finally:
        await client.execute_command("ACL", "SETUSER", "default", "+fcall")


PASSING: dict[str, Refusing] = {
    "READONLY": demoted,
    "MASTERDOWN": cut_off,
    "MISCONF": disk_fails,
    "NOREPLICAS": without_replicas,
    "BUSY": busy,
}
