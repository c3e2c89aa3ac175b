"""Test connections: functions that return, servers that are refused, and outages that end."""

import asyncio
from dataclasses import replace

import pytest

from shared.model.metrics import Metrics
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import REDIS_DOWN, REDIS_FAULTS, REDIS_FULL, Functions, open_client
from shared.store.refusals import PassingRefusal, RefusedByRedis
from tests.support.core import TIMEOUT_S, Core, fresh_job_id, frozen


async def beat(core: Core) -> object:
    """Call any step at all."""
    return await core.functions.call("beat", [core.keys.job(fresh_job_id()).record], 1, "w.1")


# Functions.


async def test_a_server_that_has_no_functions_gets_them_with_the_first_call(own_core: Core) -> None:
    assert await own_core.client.execute_command("FUNCTION", "LIST") == []

    assert await beat(own_core) == [b"missing"]


async def test_a_server_that_lost_its_functions_gets_them_again(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.client.execute_command("FUNCTION", "FLUSH")

    assert await beat(own_core) == [b"missing"]


async def test_many_callers_that_miss_the_functions_at_once_all_get_their_answers(own_core: Core) -> None:
    answers = await asyncio.gather(*(beat(own_core) for _ in range(20)))

    assert answers == [[b"missing"]] * 20


async def test_an_error_inside_a_step_is_raised(core: Core) -> None:
    execution = replace(await core.running(), job_id=fresh_job_id())
    await core.client.set(core.keys.job(execution.job_id).record, "not a hash")

    with pytest.raises(REDIS_FAULTS, match="WRONGTYPE"):
        await core.executions.beat([execution])


async def test_a_step_that_does_not_exist_is_an_error_and_not_a_loop(core: Core) -> None:
    with pytest.raises(REDIS_FAULTS, match="Function not found"):
        await Functions(core.client, core.keys).call("no_such_step", [])


# Outages.


async def test_a_connection_that_died_while_idle_is_replaced_unnoticed(core: Core, redis_url: str) -> None:
    async with open_client(redis_url, connections=1) as client:
        mine = await client.client_id()
        await core.client.execute_command("CLIENT", "KILL", "ID", mine)

        assert await client.client_id() != mine


async def test_a_command_whose_connection_breaks_under_way_is_sent_once_more(core: Core, redis_url: str) -> None:
    async with open_client(redis_url, connections=1) as client:
        mine = await client.client_id()
        hearing = asyncio.create_task(client.execute_command("BLPOP", core.keys.wake_ups("default"), 4))
        async with asyncio.timeout(TIMEOUT_S):
            while "b" not in await flags_of(core, mine):
                pass
        await core.client.execute_command("CLIENT", "KILL", "ID", mine)
        await core.client.lpush(core.keys.wake_ups("default"), "rung")  # type: ignore[misc]

        assert list(await hearing) == [core.keys.wake_ups("default").encode(), b"rung"]


async def flags_of(core: Core, client_id: int) -> str:
    """Return a connection's flags as CLIENT LIST gives them: b while it waits in a blocking command."""
    (connection,) = await core.client.client_list(client_id=[str(client_id)])
    return str(connection["flags"])


async def test_a_frozen_server_and_a_stopped_server_both_count_as_down(
    own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    await own_core.client.ping()
    with frozen(own_valkey), pytest.raises(REDIS_DOWN):
        await own_core.client.ping()
    await own_valkey.stop()
    with pytest.raises(REDIS_DOWN):
        await own_core.client.ping()


async def test_a_client_continues_after_a_restart_of_its_server(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    await asyncio.gather(*(own_core.client.ping() for _ in range(8)))
    await own_valkey.stop()
    await own_valkey.start()

    assert await asyncio.gather(*(beat(own_core) for _ in range(16))) == [[b"missing"]] * 16


async def test_a_server_without_room_is_full_and_not_down(own_core: Core) -> None:
    await own_core.client.config_set("maxmemory", 1)

    with pytest.raises(REDIS_FULL) as full:
        await own_core.client.set("a", "b")

    assert not isinstance(full.value, REDIS_DOWN)


async def test_a_server_that_can_not_serve_now_is_asked_anew_by_every_connection(own_core: Core) -> None:
    """Reconnect each connection: its address may belong to another server by then, while a replica answers reads."""
    await asyncio.gather(*(own_core.client.ping() for _ in range(5)))
    before = {each["id"] for each in await own_core.client.client_list()}
    await own_core.client.config_set("min-replicas-to-write", 1)

    with pytest.raises(PassingRefusal):
        await own_core.client.set("a", "b")

    assert len(before) > 1
    async with asyncio.timeout(TIMEOUT_S):
        while before & {each["id"] for each in await own_core.client.client_list()}:
            pass


async def test_a_server_that_waits_for_its_replicas_is_down_until_they_are_there(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.client.config_set("min-replicas-to-write", 1)

    with pytest.raises(PassingRefusal, match="NOREPLICAS") as refusal:
        await own_core.client.set("a", "b")
    assert isinstance(refusal.value, REDIS_DOWN)
    with pytest.raises(REDIS_DOWN):
        await own_core.queued()

    await own_core.client.config_set("min-replicas-to-write", 0)
    assert await own_core.client.set("a", "b")


async def test_a_client_never_opens_more_connections_than_it_may(own_valkey: EmbeddedValkey) -> None:
    async with open_client(own_valkey.url, connections=3) as client:
        await asyncio.gather(*(client.ping() for _ in range(50)))

        assert len(await client.client_list()) == 3


async def test_each_command_of_a_measured_client_is_timed_even_if_it_fails(redis_url: str) -> None:
    latency = Metrics().command.of("queue")
    async with open_client(redis_url, latency=latency) as client:
        await client.ping()
        with pytest.raises(RefusedByRedis):
            await client.execute_command("NO-SUCH-COMMAND")
        async with client.pipeline(transaction=False) as pipe:
            pipe.get("nothing")
            await pipe.execute()

    *counts, seconds = latency.numbers()
    assert sum(counts) == 2
    assert 0 < seconds < TIMEOUT_S


async def test_a_client_that_times_its_commands_closes_its_connections_like_any_other(
    redis_url: str, core: Core
) -> None:
    async with open_client(redis_url, latency=Metrics().command.of("queue")) as client:
        connection = await client.client_id()
    async with asyncio.timeout(TIMEOUT_S):
        while connection in [int(each["id"]) for each in await core.client.client_list()]:
            pass
