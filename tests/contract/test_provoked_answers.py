"""Test error answers for which a server must be put into a state: it loads, is full, or is a part of a cluster.

test_refusals.py tests the answers of a server that can be made to refuse and back.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError, RedisError

from shared.process.embedded_valkey import EmbeddedValkey, find_server
from shared.store.client import REDIS_DOWN, Client, open_client
from shared.store.refusals import PassingRefusal, RefusedByRedis, name_of
from tests.support.core import TIMEOUT_S, Core, open_core
from tests.support.ports import reserve_port
from tests.support.redis_servers import running_redis

ALL_SLOTS, SLOT_OF_A, SLOT_OF_B, SLOT_OF_C = 16_384, 15_495, 3_300, 7_365


async def loads(client: Client) -> bool:
    """Return whether a server has begun to load its data."""
    try:
        await client.get("a")
    except PassingRefusal as refusal:
        return name_of(refusal) == "LOADING"
    except REDIS_DOWN:
        return False
    return False


async def test_a_server_that_loads_its_data_counts_as_down_until_it_has(tmp_path: Path) -> None:
    async with running_redis(find_server(), tmp_path) as url, open_client(url) as client:
        await client.mset({f"key-{number}": random.randbytes(2_000) for number in range(60)})
        await client.execute_command("SAVE")
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    async with (
        running_redis(find_server(), tmp_path, *slowly, ready=loads) as url,
        open_core(url, "mine") as core,
    ):
        with pytest.raises(PassingRefusal) as of_a_function:
            await core.queued()
        assert name_of(of_a_function.value) == "LOADING"
        async with asyncio.timeout(TIMEOUT_S):
            while await loads(core.client):
                pass
        assert await core.queued()


async def test_a_full_server_is_not_an_outage(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.client.config_set("maxmemory", 1)

    for refused in (own_core.client.set("a", "b"), own_core.queued()):
        with pytest.raises(OutOfMemoryError) as refusal:
            await refused
        assert name_of(refusal.value) == "OOM"


async def test_a_connection_that_is_one_too_many_is_an_outage(own_core: Core, own_valkey: EmbeddedValkey) -> None:
    await own_core.client.config_set("maxclients", 1)
    async with open_client(own_valkey.url) as other:
        with pytest.raises(REDIS_DOWN) as refusal:
            await other.get("a")

    assert "max number of clients" in str(refusal.value)


# Parts of a cluster: the answers of such a server are not lost, even if `check_server` did not detect it.


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Client]:
    """Yield a server that may be a part of a cluster."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(reserve_port()))
    async with running_redis(find_server(), folder, *options) as url, open_client(url) as client:
        yield client


async def reported(client: Client, *command: str) -> RedisError:
    """Send a command that is refused; return the refusal."""
    with pytest.raises(RedisError) as refusal:
        await client.execute_command(*command)
    return refusal.value


async def test_the_refusals_of_a_cluster_node_are_recognized(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    async with node(folders[0]) as one, node(folders[1]) as two:
        down = await reported(one, "GET", "a")
        assert (type(down), name_of(down)) == (PassingRefusal, "CLUSTERDOWN")

        await one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOT_OF_A - 1)
        await two.execute_command("CLUSTER", "ADDSLOTSRANGE", SLOT_OF_A, ALL_SLOTS - 1)
        port, bus = two.connection_pool.connection_kwargs["port"], (await two.config_get("cluster-port"))
        await one.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus["cluster-port"])
        async with asyncio.timeout(2 * TIMEOUT_S):
            while b"cluster_state:ok" not in await one.execute_command("CLUSTER", "INFO"):
                pass
        await one.set("{b}here", "1")
        for slot in (SLOT_OF_B, SLOT_OF_C):
            await one.execute_command(
                "CLUSTER", "SETSLOT", slot, "MIGRATING", await two.execute_command("CLUSTER MYID")
            )
        refusals = {
            "MOVED": await reported(one, "GET", "a"),
            "CROSSSLOT": await reported(one, "MGET", "b", "c"),
            "ASK": await reported(one, "GET", "c"),
        }
        again = await reported(one, "MGET", "{b}here", "{b}there")

    found = {word: (type(error), name_of(error)) for word, error in refusals.items()}
    assert found == {word: (RefusedByRedis, word) for word in refusals}
    assert (type(again), name_of(again)) == (PassingRefusal, "TRYAGAIN")
