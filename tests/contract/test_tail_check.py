"""Test the tail check on real servers: a deaf feed is found and reconnected; one that receives is not touched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.streams import tail_check as tail_check_module
from gateway.streams.hub import Hub
from shared.config.settings import Settings
from shared.model.events import START
from shared.model.metrics import Metrics
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import Client
from tests.contract.hub.running import read, running_hub
from tests.support.core import captured_logs
from tests.support.forwarder import Forwarder, forwarding
from tests.support.log_writer import JobSide, job_side
from tests.support.short_settings import redis_url_of
from tests.support.valkey import running_valkey

TIMEOUT_S = 5.0


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[JobSide]:
    """Provide the store in which the test writes its jobs' logs."""
    async with job_side(settings) as opened:
        yield opened


@pytest.fixture
async def forwarder(settings: Settings) -> AsyncIterator[Forwarder]:
    """Yield the hub's way to the server."""
    async with forwarding(redis_url_of(settings)) as opened:
        yield opened


@asynccontextmanager
async def checking(settings: Settings, url: str, metrics: Metrics) -> AsyncIterator[Hub]:
    """Run a hub that makes a tail check only when the test does."""
    async with running_hub(settings.model_copy(update={"redis_url": url}), metrics=metrics) as hub:
        yield hub


async def follow(primary: EmbeddedValkey, client: Client, replica: Client) -> None:
    """Let a server become the replica of another one, and wait until it has everything."""
    url = urlsplit(primary.url)
    await client.config_set("repl-diskless-sync-delay", 0)
    await replica.exists("any")  # opens the connection for short commands, before the password is another
    await replica.config_set("masterauth", str(url.password))
    await replica.config_set("requirepass", str(url.password))
    await replica.replicaof(str(url.hostname), str(url.port))
    async with asyncio.timeout(TIMEOUT_S):
        while (await replica.info("replication"))["master_link_status"] != "up":
            pass


async def hears_again(client: Client, channel: str) -> None:
    """Wait until the hub has subscribed to this channel on this server."""
    async with asyncio.timeout(TIMEOUT_S):
        while await client.pubsub_numsub(channel) == [(channel.encode(), 0)]:
            pass


async def test_streams_continue_after_one_tail_check_though_the_demoted_server_stays_up(
    settings: Settings, tmp_path: Path
) -> None:
    metrics = Metrics()
    async with running_valkey(tmp_path / "old") as old, running_valkey(tmp_path / "new") as new:
        at_old, at_new = (settings.model_copy(update={"redis_url": server.url}) for server in (old, new))
        async with (
            job_side(at_old) as before,
            job_side(at_new) as after,
            forwarding(old.url) as forwarder,
            checking(settings, forwarder.url, metrics) as hub,
        ):
            writer = await before.started()
            channel = before.keys.channel(writer.job_id)
            async with hub.reader(writer.job_id, START) as reader:
                await read(reader, until=b"started")
                await hub.tail_check.check()
                await follow(old, before.client, after.client)
                await after.client.replicaof("NO", "ONE")
                writer.job_side = after
                # Every connection of the hub leads to the old server, which still runs and receives nothing.
                forwarder.target = new.url
                with captured_logs() as logs:
                    said = await writer.say("written on the new server")
                    await hub.tail_check.check()
                    assert await read(reader, until=b"new server") == said
                    await hears_again(after.client, channel)
                said = await writer.say("received live")
                assert await read(reader, until=b"live") == said
                await hub.tail_check.check()

    assert len(logs.named("feed.deaf")) == 1
    assert logs.named("feed.lost") == []
    assert metrics.feed_deaf.of().value == 1


async def test_a_feed_that_is_cut_off_without_an_error_is_connected_anew(
    settings: Settings, writing: JobSide, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_check_module, "_ECHO_S", 0.05)
    metrics = Metrics()
    writer = await writing.started()
    async with checking(settings, forwarder.url, metrics) as hub, hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        forwarder.hold(b"SUBSCRIBE")
        said = await writer.say("unheard")
        checking_now = asyncio.create_task(hub.tail_check.check())
        # The reader does not wait for the proof.
        assert await read(reader, until=b"unheard") == said
        await checking_now
        said = await writer.say("received")
        assert await read(reader, until=b"received") == said

    assert metrics.feed_deaf.of().value == 1
    assert metrics.feed_connects.of().value == 2


async def test_a_delayed_message_does_not_count_as_a_deaf_feed(
    settings: Settings, writing: JobSide, forwarder: Forwarder
) -> None:
    """Leave the feed alone if a tail overtakes its message, which comes on another connection."""
    metrics = Metrics()
    writer = await writing.started()
    async with checking(settings, forwarder.url, metrics) as hub, hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        forwarder.hold(b"SUBSCRIBE")
        said = await writer.say("overtaken")
        checking_now = asyncio.create_task(hub.tail_check.check())
        assert await read(reader, until=b"overtaken") == said
        forwarder.release()
        await checking_now

    assert metrics.feed_deaf.of().value == 0


async def test_an_epoch_without_events_does_not_make_the_feed_deaf(settings: Settings, writing: JobSide) -> None:
    """Leave the feed alone if a worker ends a job in another's place.

    It takes an epoch, and logs nothing until it knows the end.
    """
    metrics = Metrics()
    writer = await writing.started()
    async with checking(settings, redis_url_of(settings), metrics) as hub, hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        await writing.begin_the_end(writer.job_id)
        await hub.tail_check.check()

    assert metrics.feed_deaf.of().value == 0
