"""Test the shared connection: each caller gets its own answer or an error, with a server that errs, freezes or ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.model.bounds import SHARED_COMMAND_BYTES, SHARED_UNANSWERED_BYTES
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import REDIS_DOWN, Client, drop_idle_connections, open_client
from shared.store.multiplexed import Multiplexer
from shared.store.refusals import PassingRefusal, RefusedByRedis
from tests.support.core import TIMEOUT_S, Core, frozen
from tests.support.rogue_redis import RogueRedis, running_rogue

LOST = (RedisConnectionError, RedisTimeoutError)


@pytest.fixture
async def rogue() -> AsyncIterator[RogueRedis]:
    """Yield a server that breaks the rules."""
    async with running_rogue() as running:
        yield running


@pytest.fixture
async def client(rogue: RogueRedis) -> AsyncIterator[Client]:
    """Yield a client of that server."""
    async with open_client(rogue.url, command_timeout_s=0.5) as opened:
        yield opened


async def outcomes(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Make calls at once; return their answers and their errors."""
    async with asyncio.timeout(4 * TIMEOUT_S):
        return await asyncio.gather(*calls, return_exceptions=True)


def shared_connection(client: Client) -> Multiplexer:
    """Return the connection for short commands."""
    found = client.multiplexer  # type: ignore[attr-defined]
    assert isinstance(found, Multiplexer)
    return found


async def connections_named(core: Core, name: str) -> list[Any]:
    """Return the server's connections that have this name."""
    return [each for each in await core.client.client_list() if each["name"] == name]


# One connection.


async def test_the_commands_of_all_callers_share_one_connection(core: Core, redis_url: str) -> None:
    async with open_client(f"{redis_url}?client_name=shared") as client:
        await outcomes(client.exists(core.keys.job(str(number)).record) for number in range(200))

        assert len(await connections_named(core, "shared")) == 1


async def test_commands_of_one_turn_are_one_write(client: Client, rogue: RogueRedis) -> None:
    await client.get("first")
    before = len(rogue.asked)

    assert await outcomes(client.get(f"k{number}") for number in range(20)) == [b"k%d" % n for n in range(20)]
    assert len(rogue.asked) - before == 20 + 1  # one ECHO for all


async def test_answers_are_converted_as_those_of_the_pool(core: Core) -> None:
    key = core.keys.job("converted").record

    assert await core.client.set(key, "x", px=60_000) is True
    assert await core.client.set(key, "y", nx=True) is None
    assert await core.client.set(key, "y", get=True, px=60_000) == b"x"
    assert await core.client.exists(key) == 1
    await core.client.delete(key)
    await core.client.hset(key, mapping={"a": "1"})  # type: ignore[misc]
    await core.client.pexpire(key, 60_000)
    assert await core.client.hgetall(key) == {b"a": b"1"}  # type: ignore[misc]
    assert await core.client.zscore(core.keys.lane("none"), "x") is None


async def test_a_large_command_takes_a_connection_of_the_pool(core: Core, redis_url: str) -> None:
    key = core.keys.job("large").record
    async with open_client(f"{redis_url}?client_name=large") as client:
        large = b"x" * SHARED_COMMAND_BYTES
        assert await client.set(key, large, px=60_000)

        assert await client.get(key) == large
        assert len(await connections_named(core, "large")) == 2


async def test_large_answers_do_not_starve_a_short_one(core: Core) -> None:
    large, short = core.keys.job("large").record, core.keys.job("short").record
    answer = b"x" * 4_000_000
    await core.client.set(large, answer, px=60_000)
    await core.client.set(short, b"short", px=60_000)

    found = await outcomes([*(core.client.get(large) for _ in range(8)), core.client.get(short)])

    assert found == [answer] * 8 + [b"short"]


async def test_commands_beyond_the_bound_take_connections_of_the_pool(client: Client, rogue: RogueRedis) -> None:
    shared, key = shared_connection(client), "held:" + "x" * (SHARED_COMMAND_BYTES - 100)
    calls = [asyncio.ensure_future(client.get(key)) for _ in range(SHARED_UNANSWERED_BYTES // SHARED_COMMAND_BYTES)]
    await rogue.until_held()

    assert not shared.takes(("GET", key))
    assert shared.takes(("GET", "short"))
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert not shared.takes(("GET", key)), "a cancelled call's bytes are still on their way"
    rogue.release()
    assert await client.get("short") == b"short"
    assert shared.takes(("GET", key))


# A server that errs.


async def test_an_error_in_the_middle_of_a_batch_goes_to_its_own_caller(client: Client, rogue: RogueRedis) -> None:
    before, error, after = await outcomes(map(client.get, ("before", "error:x", "after")))

    assert (before, after) == (b"before", b"after")
    assert isinstance(error, ResponseError) and str(error) == "refused error:x"
    assert rogue.connections == 1


@pytest.mark.parametrize("kind", ["twice", "cut", "half", "noise", "never"])
async def test_no_caller_of_a_batch_gets_the_answer_of_another(client: Client, rogue: RogueRedis, kind: str) -> None:
    names = ["a", "b", f"{kind}:c", "d", "e"]

    found = await outcomes(map(client.get, names))

    assert all(isinstance(each, LOST) for each in found)
    assert await client.get("f") == b"f"
    assert rogue.connections == 3  # two tries


async def test_a_late_second_answer_never_goes_to_the_next_caller(client: Client, rogue: RogueRedis) -> None:
    assert await client.get("later:a") == b"later:a"

    assert await outcomes(map(client.get, ("b", "c"))) == [b"b", b"c"]
    assert rogue.connections == 2


async def test_a_server_that_is_busy_refuses_each_command_of_a_batch(client: Client) -> None:
    found = await outcomes(map(client.get, ("a", "busy:b", "c")))

    # The token is refused too, so that the first answer can't be confirmed.
    assert [type(each) for each in found] == [PassingRefusal] * 3
    assert len({id(each) for each in found}) == 3


async def test_a_server_that_does_not_answer_in_time_is_a_time_out_and_is_connected_anew(
    client: Client, rogue: RogueRedis
) -> None:
    found = await outcomes(map(client.get, ("a", "held:b")))

    assert all(isinstance(each, RedisTimeoutError) for each in found)
    rogue.release()
    assert await client.get("c") == b"c"


# Callers that are cancelled.


async def test_the_answer_to_a_cancelled_caller_goes_to_no_other(client: Client, rogue: RogueRedis) -> None:
    held = asyncio.ensure_future(client.get("held:a"))
    await rogue.until_held()
    later = [asyncio.ensure_future(client.get(f"b{number}")) for number in range(5)]
    await asyncio.sleep(0)
    held.cancel()
    later[2].cancel()
    await asyncio.wait([held])
    rogue.release()

    found = await outcomes(later)

    assert found[:2] + found[3:] == [b"b0", b"b1", b"b3", b"b4"]
    assert isinstance(found[2], asyncio.CancelledError)
    assert rogue.connections == 1


async def test_a_command_that_is_cancelled_before_it_is_written_is_not_sent(client: Client, rogue: RogueRedis) -> None:
    await client.get("first")
    call = asyncio.ensure_future(client.get("cancelled"))
    await asyncio.sleep(0)
    call.cancel()

    assert await client.get("next") == b"next"
    assert b"cancelled" not in rogue.asked


async def test_a_caller_that_is_cancelled_while_the_connection_opens_leaves_it_to_the_others(
    client: Client, rogue: RogueRedis
) -> None:
    calls = [asyncio.ensure_future(client.get(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    calls[0].cancel()

    assert await calls[1] == b"b"
    assert rogue.connections == 1


# A connection that ends.


async def test_commands_in_flight_are_sent_once_more_when_their_connection_is_killed(
    own_core: Core, own_valkey: EmbeddedValkey
) -> None:
    names = [f"k{number}" for number in range(50)]
    await own_core.client.mset({name: name for name in names})
    async with open_client(f"{own_valkey.url}?client_name=mine") as client:
        for _ in range(20):
            reads = [asyncio.ensure_future(client.get(name)) for name in names]
            for each in await connections_named(own_core, "mine"):
                await own_core.client.client_kill_filter(_id=each["id"])

            assert await outcomes(reads) == [name.encode() for name in names]


async def test_a_connection_opens_anew_with_the_options_of_the_address(
    own_core: Core, own_valkey: EmbeddedValkey
) -> None:
    await own_core.client.execute_command("ACL", "SETUSER", "other", "on", ">secret", "~*", "+@all")
    address = own_valkey.url.rpartition("@")[2].rpartition("/")[0]
    for protocol in (2, 3):
        async with open_client(f"redis://other:secret@{address}/5?client_name=mine&protocol={protocol}") as client:
            for _ in range(2):
                await client.set("a", "b")
                (mine,) = await connections_named(own_core, "mine")
                assert (mine["db"], mine["user"], mine["resp"]) == ("5", "other", str(protocol))
                await own_core.client.client_kill_filter(_id=mine["id"])
            assert await client.get("a") == b"b"
    assert await own_core.client.get("a") is None


async def test_a_frozen_server_is_a_time_out_and_answers_again_when_it_runs(
    own_core: Core, own_valkey: EmbeddedValkey
) -> None:
    await own_core.client.set("a", "b")
    with frozen(own_valkey):
        found = await outcomes(own_core.client.get("a") for _ in range(20))
    assert all(isinstance(each, REDIS_DOWN) for each in found)

    assert await own_core.client.get("a") == b"b"


async def test_many_callers_of_an_absent_server_share_one_attempt_to_connect(own_core: Core) -> None:
    async with open_client("redis://127.0.0.1:1") as client:
        found = await outcomes(client.get("a") for _ in range(300))

    assert all(isinstance(each, REDIS_DOWN) for each in found)


async def test_a_replaced_connection_gives_its_answers_first(client: Client, rogue: RogueRedis) -> None:
    held = asyncio.ensure_future(client.get("held:a"))
    await rogue.until_held()
    await drop_idle_connections(client)

    assert await client.get("b") == b"b"
    assert rogue.connections == 2
    rogue.release()
    assert await held == b"held:a"


async def test_an_idle_connection_that_is_replaced_is_closed(core: Core, redis_url: str) -> None:
    async with open_client(f"{redis_url}?client_name=replaced") as client:
        await client.get("a")
        (before,) = await connections_named(core, "replaced")
        await drop_idle_connections(client)
        await client.get("a")

        async with asyncio.timeout(TIMEOUT_S):
            while len(now := await connections_named(core, "replaced")) > 1:
                pass
        assert now[0]["id"] != before["id"]


# A client that is closed.


async def test_a_client_that_is_closed_ends_its_connections_and_releases_its_callers(rogue: RogueRedis) -> None:
    client = open_client(rogue.url)
    held = asyncio.ensure_future(client.get("held:a"))
    await rogue.until_held()
    await client.aclose()

    assert isinstance((await outcomes([held]))[0], RedisConnectionError)
    with pytest.raises(RedisConnectionError, match="closed"):
        await client.get("b")
    assert rogue.connections == 1


async def test_a_client_that_is_closed_while_it_connects_cancels_no_caller(rogue: RogueRedis) -> None:
    client = open_client(rogue.url)
    call = asyncio.ensure_future(client.get("a"))
    await asyncio.sleep(0)
    await client.aclose()

    assert isinstance((await outcomes([call]))[0], RedisConnectionError)


# A user without the right.


async def test_a_user_that_may_not_echo_is_refused_with_the_command(own_core: Core, own_valkey: EmbeddedValkey) -> None:
    await own_core.client.execute_command("ACL", "SETUSER", "other", "on", ">secret", "~*", "+@all", "-echo")
    async with open_client(f"redis://other:secret@{own_valkey.url.rpartition('@')[2]}") as client:
        with pytest.raises(RefusedByRedis, match="'echo'") as refusal:
            await client.get("a")

    assert refusal.value.sentence.startswith("Redis refuses the command ECHO (NOPERM ")
