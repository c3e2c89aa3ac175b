"""Test the check of the server: which servers are fit, and the report to a process when one is fit no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.model.errors import RedisUnavailable, StartupError
from shared.model.metrics import Metrics
from shared.process.child import start_child, stop_child
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey, find_server
from shared.store.client import Client, open_client
from shared.store.keys import Keys
from shared.store.queue_admission import QueueAdmission
from shared.store.server_check import check_arq_keys, check_server
from shared.store.server_watch import ServerWatch
from shared.store.wire.rights import acl_rules
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, captured_logs, make_spec
from tests.support.ports import reserve_port
from tests.support.redis_servers import answers, redis_7_0, running_redis
from tests.support.refusals import demoted, without_the_right


@asynccontextmanager
async def server_that_says(version: str, further: str = "") -> AsyncIterator[Client]:
    """Yield a client of a server that only answers INFO and ECHO: no other versions are available here."""
    info = f"redis_version:{version}\r\nmaxmemory_policy:noeviction\r\n{further}".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = [(await reader.readline(), await reader.readline())[1].strip() for _ in range(int(head[1:]))]
            text = {b"INFO": info, b"ECHO": words[-1]}.get(words[0])
            writer.write(b"*0\r\n" if text is None else b"$%d\r\n%s\r\n" % (len(text), text))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(f"redis://127.0.0.1:{port}") as client:
        yield client


# Which servers are fit.


async def test_the_embedded_server_is_fit(core: Core) -> None:
    await check_server(core.client, core.keys)


async def test_processes_that_name_the_keys_of_arq_otherwise_are_refused_in_one_sentence(core: Core) -> None:
    prefixed = Keys(core.keys.prefix, arq_prefixed=True)
    await core.queue_admission.admit(make_spec(), max_depth=10, retention_s=RETENTION_S)

    await check_arq_keys(core.client, core.keys)
    with pytest.raises(StartupError, match=r"^TAILRACE_ARQ_PREFIXED must be false, .*TAILRACE_KEY_PREFIX .*\.$"):
        await check_arq_keys(core.client, prefixed)


async def test_processes_beside_those_with_prefixed_keys_of_arq_must_have_them_too(core: Core) -> None:
    prefixed = Keys(core.keys.prefix, arq_prefixed=True)
    await check_arq_keys(core.client, prefixed)
    await QueueAdmission(core.client, prefixed).admit(make_spec(), max_depth=10, retention_s=RETENTION_S)

    await check_arq_keys(core.client, prefixed)
    with pytest.raises(StartupError, match=r"^TAILRACE_ARQ_PREFIXED must be true, "):
        await check_arq_keys(core.client, core.keys)


@pytest.mark.parametrize("policy", ["volatile-lru", "allkeys-lru", "volatile-ttl"])
async def test_a_server_that_evicts_is_refused_in_one_sentence(own_core: Core, policy: str) -> None:
    await own_core.client.config_set("maxmemory-policy", policy)

    with pytest.raises(StartupError, match=rf"^This Redis has maxmemory-policy {policy}, .*noeviction\.$"):
        await check_server(own_core.client, own_core.keys)


@pytest.mark.parametrize("version", ["6.2.14", "7.0.15", "7.1.99"])
async def test_a_server_that_is_too_old_is_refused_in_one_sentence(version: str) -> None:
    async with server_that_says(version) as client:
        with pytest.raises(StartupError, match=rf"^This Redis is version {version}; .*7\.2.*newer\.$"):
            await check_server(client, Keys())


@pytest.mark.parametrize("version", ["7.2.0", "7.10.0", "8.0.2", "10.0.0"])
async def test_a_server_that_is_new_enough_is_taken(version: str) -> None:
    async with server_that_says(version) as client:
        await check_server(client, Keys())


async def test_an_absent_server_raises_another_error_than_an_unfit_one() -> None:
    async with open_client(f"redis://127.0.0.1:{reserve_port()}") as client:
        with pytest.raises(RedisUnavailable, match="does not answer"):
            await check_server(client, Keys())


async def test_a_refused_password_is_reported_without_the_password(own_valkey: EmbeddedValkey) -> None:
    async with open_client(own_valkey.url.replace("redis://:", "redis://:hunter2")) as client:
        with pytest.raises(
            StartupError, match=r"^Redis refuses the user or the password \(WRONGPASS .*address\.$"
        ) as refusal:
            await check_server(client, Keys())

    assert "hunter2" not in str(refusal.value)


async def test_a_real_redis_7_0_is_refused_in_one_sentence(tmp_path: Path) -> None:
    async with running_redis(redis_7_0(tmp_path / "bin"), tmp_path) as url, open_client(url) as client:
        with pytest.raises(StartupError, match=r"^This Redis is version 7\.0\.\d+; .*7\.2.*newer\.$"):
            await check_server(client, Keys())


async def test_a_replica_is_refused_in_one_sentence(own_core: Core, own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with demoted(own_core.client, own_valkey.url, tmp_path):
        with pytest.raises(StartupError, match=r"^This Redis is a replica, .*primary\.$"):
            await check_server(own_core.client, own_core.keys)


async def test_a_cluster_is_refused_in_one_sentence(tmp_path: Path) -> None:
    port = reserve_port()
    # Its second port is by default 10,000 higher, among the ports that the kernel uses for outgoing connections.
    ports = ("--port", str(port), "--cluster-port", str(reserve_port()))
    arguments = (*ports, "--cluster-enabled", "yes", "--dir", str(tmp_path), "--save", "")
    process = await start_child([str(find_server()), *arguments], output=asyncio.subprocess.DEVNULL)
    try:
        async with open_client(f"redis://127.0.0.1:{port}") as client, asyncio.timeout(2 * TIMEOUT_S):
            while not await answers(client):
                pass
            with pytest.raises(StartupError, match=r"^This Redis is a cluster, .*primary\.$"):
                await check_server(client, Keys())
    finally:
        await stop_child(process, TIMEOUT_S)


# Rights.


@asynccontextmanager
async def user(core: Core, url: str, *rules: str) -> AsyncIterator[Client]:
    """Yield a client of a user with all rights that are needed, and these changes."""
    await core.functions.load()
    await core.client.execute_command("ACL", "SETUSER", "tail", "reset", "on", ">secret", *acl_rules(core.keys), *rules)
    async with open_client("redis://tail:secret@" + url.rpartition("@")[2]) as client:
        yield client


async def test_a_user_with_the_rights_that_are_needed_is_enough(own_core: Core, own_valkey: EmbeddedValkey) -> None:
    async with user(own_core, own_valkey.url) as client:
        await check_server(client, own_core.keys)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["-xadd"], r"may not XADD own:{\*}:record; allow"),
        (["-blpop", "-hgetall"], r"may not BLPOP own:{\*}:record, HGETALL own:{\*}:record; allow"),
        (["-function|delete"], "may not FUNCTION DELETE; allow"),
        (["resetchannels"], r"may not PUBLISH own:control, PUBLISH own:{\*}:live, SUBSCRIBE own:control, .*; allow"),
        (["resetkeys", "~own:*"], r"may not DEL arq:in-progress:\*, DEL arq:job:\*, .*ZREM arq:abort; allow"),
        (["resetkeys", "~arq:*", "~other:*"], r"may not BLPOP own:{\*}:record, .*; allow"),
        (["-fcall"], r"^Redis refuses the command FCALL \(NOPERM "),
        (["-info"], r"^Redis refuses the command INFO \(NOPERM "),
        (["-echo"], r"^Redis refuses the command ECHO \(NOPERM "),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
async def test_a_right_that_is_missing_is_named_at_the_start(
    own_core: Core, own_valkey: EmbeddedValkey, rules: list[str], missing: str
) -> None:
    async with user(own_core, own_valkey.url, *rules) as client:
        with pytest.raises(StartupError, match=missing) as refusal:
            await check_server(client, own_core.keys)

    assert str(refusal.value).count(". ") == 0


# While a process runs.


async def test_a_later_change_of_the_server_is_found_logged_once_and_counted(
    own_core: Core, own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    metrics = Metrics()
    watch = ServerWatch({"jobs": own_core.client}, own_core.keys, SystemClock(), metrics)
    unfit = metrics.redis_unfit.of("jobs")
    with captured_logs() as logs:
        await watch.check()
        assert unfit.numbers() == (0.0,)
        await own_core.client.config_set("maxmemory-policy", "allkeys-lru")
        await watch.check()
        await watch.check()
        assert serves(watch)
        assert unfit.numbers() == (1.0,)
        await own_core.client.config_set("maxmemory-policy", "noeviction")
        async with demoted(own_core.client, own_valkey.url, tmp_path):
            await watch.check()
            assert not serves(watch)
        await watch.check()
        assert watch.unfit == {}

    reasons = [line["reason"] for line in logs.named("servers.unfit")]
    assert ["allkeys-lru" in reasons[0], "replica" in reasons[1], len(reasons)] == [True, True, 2]
    assert len(logs.named("servers.fit_again")) == 1


def serves(watch: ServerWatch) -> bool:
    return watch.unfit["jobs"].serves


async def test_the_watch_outlives_a_refusal(own_core: Core, own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    watch = ServerWatch({"jobs": own_core.client}, own_core.keys, SystemClock(), Metrics(), check_s=0.01)
    with captured_logs() as logs:
        watching = asyncio.create_task(watch.run())
        try:
            async with without_the_right(own_core.client, own_valkey.url, tmp_path):
                await logs.wait_for("servers.not_checked", times=2)
            await logs.wait_for("servers.checked_again")
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    assert logs.named("servers.not_checked")[0]["error"] == "NOPERM"
