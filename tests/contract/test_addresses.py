"""Test addresses of Redis: TLS that checks names and is made once, Unix sockets, and unknown options."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.process.child import start_child, stop_child
from shared.process.embedded_valkey import find_server
from shared.store.client import open_client, warm
from shared.store.keys import Keys
from shared.store.redis_address import make_pool
from shared.store.server_check import check_server
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import TIMEOUT_S
from tests.support.redis_servers import answers
from tests.support.system import ask, running_system, running_worker
from tests.support.tls import Relay, running_relay


@pytest.fixture
async def relay(redis_url: str) -> AsyncIterator[Relay]:
    """Yield a TLS relay in front of the run's server."""
    async with running_relay(redis_url) as running:
        yield running


# TLS.


async def test_a_server_whose_name_is_in_its_certificate_is_spoken_to(relay: Relay) -> None:
    async with open_client(relay.url()) as client:
        assert await client.ping()


async def test_a_server_of_another_name_is_refused_in_one_sentence(relay: Relay) -> None:
    async with open_client(relay.url("127.0.0.1")) as client:
        with pytest.raises(StartupError) as refusal:
            await check_server(client, Keys())

    assert str(refusal.value) == (
        "The certificate of Redis is not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'; "
        "correct the name in its address, or add ssl_ca_certs or ssl_check_hostname to it."
    )


@pytest.mark.parametrize("options", [{"ssl_check_hostname": "false"}, {"ssl_cert_reqs": "none"}], ids=str)
async def test_the_certificates_name_is_not_checked_if_the_address_says_so(
    relay: Relay, options: dict[str, str]
) -> None:
    async with open_client(relay.url("127.0.0.1", **options)) as client:
        assert await client.ping()


async def test_an_unknown_authority_is_refused(relay: Relay) -> None:
    async with open_client(relay.url(ssl_ca_certs="").replace("ssl_ca_certs=", "")) as client:
        with pytest.raises(StartupError, match=r"certificate of Redis is not accepted: .*certificate"):
            await check_server(client, Keys())


async def test_all_connections_of_a_process_share_one_tls_context(relay: Relay) -> None:
    clients = [open_client(relay.url(), connections=count) for count in (1, 2)]
    contexts = {id(client.connection_pool.make_connection().ssl_context.get()) for client in clients for _ in range(2)}
    other = open_client(relay.url(ssl_check_hostname="false")).connection_pool.make_connection().ssl_context.get()

    assert len(contexts) == 1
    assert id(other) not in contexts


async def test_warming_opens_all_connections_over_tls_and_none_otherwise(relay: Relay, redis_url: str) -> None:
    async with open_client(relay.url(), connections=7) as encrypted, open_client(redis_url) as plain:
        await warm(encrypted)
        await warm(plain)

        assert relay.connections == 7 + 1  # the pool's, and the one for short commands
        assert plain.connection_pool._available_connections == []


async def test_a_first_burst_over_tls_waits_for_no_connection(relay: Relay, settings: Settings) -> None:
    encrypted = settings.model_copy(update={"redis_url": relay.url()})
    async with (
        running_system(encrypted) as system,
        running_worker(encrypted, ControlledProvider(lambda call: call.end())),
    ):
        async with asyncio.timeout(TIMEOUT_S):
            # The worker's feed is subscribed to orders, the gateway's to nothing yet.
            while not (system.gateway.services.hub.connected and await system.core.client.client_list(_type="pubsub")):
                pass
        before = relay.connections
        answers = await asyncio.gather(*(system.client.post("/v1/chat/completions", ask()) for _ in range(50)))

    assert [answer.status for answer in answers] == [200] * 50
    # The connection on which the worker waits for work is renewed when the wait is cut short; no caller waits for it.
    assert relay.connections - before <= 2


async def test_short_commands_share_one_connection_over_tls(relay: Relay, key_prefix: str) -> None:
    async with open_client(relay.url()) as client:
        names = [f"{key_prefix}:{number}" for number in range(50)]
        await asyncio.gather(*(client.set(name, name, px=60_000) for name in names))

        assert await asyncio.gather(*map(client.get, names)) == [name.encode() for name in names]
        assert relay.connections == 1


# Unix sockets.


async def test_a_unix_socket_works(tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    arguments = ("--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--requirepass", "secret")
    process = await start_child([str(find_server()), *arguments], output=asyncio.subprocess.DEVNULL)
    try:
        async with open_client(f"unix://:secret@{path}?db=3") as client, asyncio.timeout(TIMEOUT_S):
            while not await answers(client):
                pass
            await check_server(client, Keys())
            assert (await client.client_info())["db"] == 3
    finally:
        await stop_child(process, TIMEOUT_S)


# Options.


@pytest.mark.parametrize(
    "address",
    [
        "redis://:hunter2/x@localhost:6379",
        "redis://tail:hunter2@localhost:hunter2",
        "redis://tail:hunter2@[::1",
        "rediss://tail:hunter2#x@localhost:6379/0",
        "redis://tail:hunter2@localhost:99999999/0",
    ],
)
def test_an_address_that_is_not_a_url_is_refused_in_one_sentence_without_its_password(address: str) -> None:
    with pytest.raises(StartupError, match=r"^The address of Redis is not a URL: [^\n]*%2F for /\.$") as refusal:
        make_pool(address)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("query", ["no_such_option=1", "db=x", "max_connections=many", "ssl_cert_reqs=some"])
def test_an_option_that_cannot_be_used_is_refused_in_one_sentence(query: str) -> None:
    scheme = "rediss" if query.startswith("ssl") else "redis"
    with pytest.raises(
        StartupError, match=r"^The option(s| [a-z_]+) of the address of Redis (is|are) not valid\.$"
    ) as refusal:
        _ = open_client(f"{scheme}://:hunter2@127.0.0.1/0?{query}")

    assert "hunter2" not in str(refusal.value)
