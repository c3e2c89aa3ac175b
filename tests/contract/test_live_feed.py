"""Test the live feed: one connection for any number of channels, which reconnects by itself and never silently."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import structlog
from structlog.stdlib import add_log_level

from shared.model.metrics import Count
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import open_client
from shared.store.live_feed import LiveFeed
from tests.support.core import Core, Watched, captured_logs, frozen

# Far more than a test takes, so that the watchdog never acts.
NEVER_S = 60.0
SOON_S = 0.05


class Ear(Watched):
    """Record every report of a feed, and hold the feed."""

    feed: LiveFeed

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[str, bytes]] = []
        self.confirmed: list[str] = []
        self.connects = Count()
        self.readings = 0
        """how often the feed has read its clock: with every reply, and every round of its watchdog."""

    def on_message(self, channel: str, message: bytes) -> None:
        self.messages.append((channel, message))
        self.change()

    def on_confirmed(self, channel: str) -> None:
        self.confirmed.append(channel)
        self.change()

    def lost(self) -> bool:
        """Return whether the feed has noticed that it has no connection."""
        return self.feed.lost_at is not None

    async def subscribe(self, *channels: str) -> None:
        """Subscribe and wait until all of it is confirmed."""
        before = len(self.confirmed)
        for channel in channels:
            self.feed.subscribe(channel)
        await self.until(lambda: len(self.confirmed) == before + len(channels))

    async def received(self, count: int) -> list[bytes]:
        """Wait for so many messages in all."""
        await self.until(lambda: len(self.messages) >= count)
        return [message for _, message in self.messages]


class TellingClock(SystemClock):
    """Report each reading of the clock, so that a test can wait until the feed has received something."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    def monotonic(self) -> float:
        self._ear.readings += 1
        self._ear.change()
        return super().monotonic()


@asynccontextmanager
async def listening(url: str, watchdog_s: float = NEVER_S) -> AsyncIterator[Ear]:
    """Yield a feed that runs, on a client as the processes open it."""
    ear = Ear()
    async with open_client(url, connections=1, command_timeout_s=None) as client:
        ear.feed = LiveFeed(
            client,
            TellingClock(ear),
            on_message=ear.on_message,
            on_confirmed=ear.on_confirmed,
            watchdog_s=watchdog_s,
            connects=ear.connects,
        )
        task = asyncio.create_task(ear.feed.run())
        try:
            yield ear
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def ear(own_valkey: EmbeddedValkey) -> AsyncIterator[Ear]:
    async with listening(own_valkey.url) as running:
        yield running


async def pubsub_clients(core: Core) -> list[dict[str, str]]:
    found: list[dict[str, str]] = await core.client.client_list(_type="pubsub")
    return found


# Messages and confirmations.


async def test_messages_come_in_the_order_in_which_they_were_published(ear: Ear, own_core: Core) -> None:
    await ear.subscribe("a", "b")

    async with own_core.client.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.publish("ab"[n % 2], b"\x00\r\n%d" % n)
        await pipe.execute()

    assert await ear.received(500) == [b"\x00\r\n%d" % n for n in range(500)]
    assert {channel for channel, _ in ear.messages} == {"a", "b"}


async def test_messages_published_after_the_confirmation_are_received(ear: Ear, own_core: Core) -> None:
    for n in range(100):
        await ear.subscribe(f"channel {n}")
        await own_core.client.publish(f"channel {n}", b"first")

    await ear.received(100)

    assert ear.messages == [(f"channel {n}", b"first") for n in range(100)]


async def test_channels_asked_for_before_there_is_a_connection_are_confirmed_once_there_is(
    own_valkey: EmbeddedValkey,
) -> None:
    async with listening(own_valkey.url) as ear:
        await ear.subscribe("a", "b")

    assert sorted(ear.confirmed) == ["a", "b"]


async def test_a_feed_without_channels_detects_its_connection(ear: Ear) -> None:
    await ear.until(lambda: not ear.lost())


async def test_messages_of_an_unsubscribed_channel_are_not_received(ear: Ear, own_core: Core) -> None:
    await ear.subscribe("a")
    ear.feed.unsubscribe("a")
    await ear.subscribe("b")

    await own_core.client.publish("a", "unheard")
    await own_core.client.publish("b", "received")

    assert await ear.received(1) == [b"received"]
    assert ear.confirmed == ["a", "b"]


async def test_a_channel_subscribed_again_is_confirmed_by_its_last_subscription_only(
    ear: Ear, own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    await ear.subscribe("other")
    with frozen(own_valkey):  # so that no answer arrives before all is sent
        for change in (ear.feed.subscribe, ear.feed.unsubscribe, ear.feed.subscribe, ear.feed.subscribe):
            change("a")
            await asyncio.sleep(0)

    await ear.until(lambda: "a" in ear.confirmed)
    await own_core.client.publish("a", "received")

    assert await ear.received(1) == [b"received"]
    assert ear.confirmed == ["other", "a"]


async def test_a_channel_unsubscribed_before_its_confirmation_is_not_confirmed(
    ear: Ear, own_valkey: EmbeddedValkey
) -> None:
    await ear.subscribe("other")
    with frozen(own_valkey):
        ear.feed.subscribe("a")
        ear.feed.unsubscribe("a")

    await ear.subscribe("b")

    assert ear.confirmed == ["other", "b"]


async def test_the_last_of_several_quick_subscriptions_and_cancellations_holds(ear: Ear, own_core: Core) -> None:
    for _ in range(50):
        ear.feed.subscribe("a")
        await asyncio.sleep(0)
        ear.feed.unsubscribe("a")
    confirmed = len(ear.confirmed)
    ear.feed.subscribe("a")

    await ear.until(lambda: len(ear.confirmed) > confirmed)
    await ear.subscribe("b")
    await own_core.client.publish("a", "received")

    assert await ear.received(1) == [b"received"]


async def test_thousands_of_channels_share_one_connection(ear: Ear, own_core: Core) -> None:
    channels = [f"channel {n}" for n in range(5_000)]
    await ear.subscribe(*channels)

    (client,) = await pubsub_clients(own_core)
    assert client["sub"] == "5000"
    assert sorted(ear.confirmed) == sorted(channels)

    await own_core.client.publish("channel 4999", "received")
    assert await ear.received(1) == [b"received"]


# Losses.


async def test_each_channel_is_confirmed_again_after_a_lost_connection(ear: Ear, own_core: Core) -> None:
    await ear.subscribe("a", "b", "c")
    ear.feed.unsubscribe("c")
    with captured_logs() as logs:
        await own_core.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await logs.wait_for("feed.lost")
        assert ear.lost()
        await own_core.client.publish("a", "lost")
        await ear.until(lambda: len(ear.confirmed) == 5)

    assert sorted(ear.confirmed[3:]) == ["a", "b"]
    assert not ear.lost()
    assert ear.connects.value == 2
    await own_core.client.publish("a", "received")
    assert await ear.received(1) == [b"received"]


async def test_subscriptions_changed_without_a_connection_hold_afterwards(
    ear: Ear, own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    await ear.subscribe("a", "b")
    with captured_logs() as logs:
        await own_valkey.stop()
        await logs.wait_for("feed.lost")
        ear.feed.unsubscribe("a")
        ear.feed.subscribe("c")
        await own_valkey.start()
        await ear.until(lambda: len(ear.confirmed) == 4)

    assert sorted(ear.confirmed[2:]) == ["b", "c"]
    for channel in ("a", "b", "c"):
        await own_core.client.publish(channel, channel)
    assert await ear.received(2) == [b"b", b"c"]


async def test_the_time_of_a_lost_connection_counts_from_the_first_loss(ear: Ear, own_valkey: EmbeddedValkey) -> None:
    await ear.subscribe("a")
    with captured_logs() as logs:
        await own_valkey.stop()
        await logs.wait_for("feed.lost")
        lost_at = ear.feed.lost_at
        await logs.wait_for("feed.lost", times=3)

        assert ear.feed.lost_at == lost_at is not None
        await own_valkey.start()
        await ear.until(lambda: not ear.lost())


async def test_a_server_that_falls_silent_is_found_by_the_watchdog_and_heals(
    own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    async with listening(own_valkey.url, watchdog_s=SOON_S) as ear:
        await ear.subscribe("a")
        with captured_logs() as logs, frozen(own_valkey) as thaw:
            await logs.wait_for("feed.lost")
            assert ear.lost()
            thaw()
            await ear.until(lambda: len(ear.confirmed) >= 2)

        assert not ear.lost()
        await own_core.client.publish("a", "received")
        assert await ear.received(1) == [b"received"]


async def test_the_watchdog_leaves_a_quiet_connection_alone(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    async with listening(own_valkey.url, watchdog_s=4 * SOON_S) as ear:
        await ear.subscribe("a")
        before = await pubsub_clients(own_core)
        seen = ear.readings
        await ear.until(lambda: ear.readings > seen + 8)
        after = await pubsub_clients(own_core)

    assert [client["id"] for client in after] == [client["id"] for client in before]
    assert ear.confirmed == ["a"]


async def test_a_server_that_accepts_without_answering_is_tried_again(
    own_valkey: EmbeddedValkey,
) -> None:
    url = urlsplit(own_valkey.url)
    tries: list[asyncio.StreamWriter] = []

    async def first_silent_then_honest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(writer)
        if len(tries) > 1:
            from_redis, to_redis = await asyncio.open_connection(url.hostname, url.port)
            await asyncio.gather(carry(reader, to_redis), carry(from_redis, writer))

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(first_silent_then_honest, "127.0.0.1", 0)
    through = own_valkey.url.replace(str(url.port), str(server.sockets[0].getsockname()[1]))
    async with server:
        async with listening(through, watchdog_s=SOON_S) as ear:
            await ear.subscribe("a")
        tries[0].close()

    assert len(tries) >= 2


async def test_a_server_that_drops_each_connection_is_one_outage_and_is_not_stormed(
    own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    await own_core.client.execute_command("ACL", "SETUSER", "default", "-subscribe")
    with captured_logs() as logs:
        structlog.configure(processors=[add_log_level, logs])
        async with listening(own_valkey.url) as ear:
            ear.feed.subscribe("a")
            await logs.wait_for("feed.lost", times=4)
            (stats,) = [await own_core.client.info("commandstats")]
            await own_core.client.execute_command("ACL", "SETUSER", "default", "+subscribe")
            await ear.until(lambda: ear.confirmed == ["a"])

    loud = [line for line in logs.named("feed.lost") if line["level"] != "debug"]
    assert [line["error"] for line in loud] == ["NOPERM"]
    assert "Redis refuses" in loud[0]["reason"]
    assert [line for line in logs.named("feed.back") if line["level"] != "debug"] == []
    assert stats["cmdstat_subscribe"]["rejected_calls"] <= 5
