"""Test the hub on a real server: the hand-off under races, lost connections and messages; and that it stays small."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from gateway.streams import hub as hub_module
from gateway.streams.hub import Hub
from gateway.streams.reader import HEARTBEAT, Reader, StreamBroken
from shared.config.settings import Settings
from shared.model.errors import JobNotFound
from shared.model.events import START, EventId, after_cursor
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import Client, open_client
from shared.store.keys import Keys
from shared.store.live_feed import LiveFeed
from shared.store.replay_log import Entry, Page, ReplayLog
from shared.store.wire.answers import Written
from tests.support.log_writer import JobSide, LogWriter, job_side
from tests.support.short_settings import redis_url_of
from tests.support.valkey import running_valkey

# Longer than any test takes.
NEVER_S = 3600.0
TIMEOUT_S = 5.0


@pytest.fixture(autouse=True)
def quick_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed up the hub's timer: it ticks a hundred times faster than in production."""
    monkeypatch.setattr(hub_module, "_TICK_S", 0.005)


async def dawdle(rng: random.Random, most: int) -> None:
    """Let the others go first, a random number of times."""
    for _ in range(rng.randrange(most)):
        await asyncio.sleep(0)


class DawdlingLog(ReplayLog):
    """Delay the answers of a log on the way: the live feed overtakes them."""

    async def read_after(self, job_id: str, cursor: EventId, *, max_bytes: int) -> Page:
        """See `ReplayLog`."""
        page = await super().read_after(job_id, cursor, max_bytes=max_bytes)
        await dawdle(random.Random(), 50)
        return page


@asynccontextmanager
async def running_hub(
    settings: Settings, *, log_type: type[ReplayLog] = ReplayLog, metrics: Metrics | None = None, **times: float
) -> AsyncIterator[Hub]:
    """Run a hub. Its timers cause nothing, except those that the test sets."""
    names = ("heartbeat_s", "tail_check_s", "redis_patience_s", "send_timeout_s")
    options: dict[str, Any] = {**dict.fromkeys(names, NEVER_S), **times, "metrics": metrics}
    feed = open_client(redis_url_of(settings), connections=1, command_timeout_s=None)
    client = open_client(redis_url_of(settings))
    keys = Keys(settings.key_prefix)
    log, clock = log_type(client, keys), SystemClock()
    hub = Hub(feed, log, keys, clock, reader_bytes=settings.reader_bytes, **options)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()
        await feed.aclose()


@pytest.fixture
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    async with running_hub(settings) as running:
        yield running


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[JobSide]:
    """Provide the store in which the test writes its jobs' logs."""
    async with job_side(settings) as opened:
        yield opened


async def read(reader: Reader, *, until: bytes = b"", least: int = 0) -> bytes:
    """Return the reader's bytes, without heartbeats: to the end, or until these bytes are among them, or so many."""
    got = b""
    async with asyncio.timeout(TIMEOUT_S):
        while chunk := await reader.chunk():
            got += b"" if chunk is HEARTBEAT else chunk
            if (until and until in got) or (least and len(got) >= least):
                break
    return got


async def pubsub_clients(client: Client) -> list[dict[str, str]]:
    """Return the connections that subscribe to something."""
    return [each for each in await client.client_list(_type="pubsub") if int(each["sub"]) > 0]


async def kill_pubsub(client: Client) -> None:
    """Break all pub/sub connections, as a failover would."""
    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def test_a_reader_gets_history_and_then_what_is_written_until_the_end(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        assert await read(reader, until=b"started") == await writing.logged(writer.job_id)
        said = await writer.say("a", "b")
        assert await read(reader, until=said) == said
        await writer.complete()
        rest = await read(reader)
        assert rest.startswith(b"event: completed\n")
        assert reader.ended
        assert await reader.chunk() == b""


async def test_everything_that_waits_is_one_chunk(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    for number in range(100):
        await writer.say(str(number))
    await writer.complete()
    async with hub.reader(writer.job_id, START) as reader:
        assert await reader.chunk() == await writing.logged(writer.job_id)


@pytest.mark.slow(10, "10,000 races")
async def test_subscribing_races_publishing_10_000_times_and_no_first_event_is_lost(
    settings: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_debug(False)  # it would take a minute
    jobs, rounds = 50, 200
    writers = [await writing.started() for _ in range(jobs)]
    rng = random.Random(1)
    subscribe = LiveFeed.subscribe

    def subscribe_late(feed: LiveFeed, channel: str) -> None:
        asyncio.get_running_loop().call_later(rng.random() / 500, subscribe, feed, channel)

    monkeypatch.setattr(LiveFeed, "subscribe", subscribe_late)

    async def first_event(hub: Hub, writer: LogWriter, cursor: EventId) -> bytes:
        await dawdle(rng, 20)
        # Each reader is alone, so that each of them subscribes anew, and the last one's UNSUBSCRIBE may be under way.
        async with hub.reader(writer.job_id, cursor) as reader:
            return await read(reader, least=1)

    async def publish(entries: list[Entry]) -> None:
        await dawdle(rng, 100)
        assert set(await writing.log.append(entries)) == {Written()}

    async with running_hub(settings, log_type=DawdlingLog) as hub:
        for number in range(rounds):
            cursors = [writer.last for writer in writers]
            entries = [writer.entry(str(number)) for writer in writers]
            publishing = asyncio.create_task(publish(entries))
            got = await asyncio.gather(*(first_event(hub, *each) for each in zip(writers, cursors, strict=True)))
            await publishing
            assert got == [entry.frames for entry in entries]


async def test_all_readers_of_a_process_share_one_pubsub_connection(hub: Hub, writing: JobSide) -> None:
    writers = [await writing.started() for _ in range(20)]
    others = {each["id"] for each in await pubsub_clients(writing.client)}
    async with asyncio.TaskGroup() as group, asyncio.timeout(TIMEOUT_S):
        ready = asyncio.Barrier(101)

        async def follow(writer: LogWriter) -> None:
            async with hub.reader(writer.job_id, START) as reader:
                await read(reader, until=b"started")
                await ready.wait()
                await ready.wait()

        for number in range(100):
            group.create_task(follow(writers[number % 20]))
        await ready.wait()
        (connection,) = [each for each in await pubsub_clients(writing.client) if each["id"] not in others]
        assert connection["sub"] == "20"
        await ready.wait()


async def test_a_channel_without_readers_is_let_go(hub: Hub, writing: JobSide) -> None:
    writer, other = await writing.started(), await writing.started()
    async with hub.reader(writer.job_id, START) as first, hub.reader(writer.job_id, START) as second:
        await read(first, until=b"started")
        await read(second, until=b"started")
    async with hub.reader(other.job_id, START) as reader:
        await read(reader, until=b"started")  # its SUBSCRIBE comes after the other's UNSUBSCRIBE
        assert await writing.client.pubsub_numsub(writing.keys.channel(writer.job_id)) == [
            (writing.keys.channel(writer.job_id).encode(), 0)
        ]


@pytest.mark.slow(8, "75 readers read logs of 300 entries again and again")
async def test_many_readers_that_come_and_go_all_get_the_same_log(hub: Hub, writing: JobSide) -> None:
    """Test invariant 3 against the list itself: each reader leaves at any time and resumes with the id it had."""
    asyncio.get_running_loop().set_debug(False)
    writers = [await writing.started() for _ in range(3)]
    connections = [0]

    async def write(writer: LogWriter, rng: random.Random) -> None:
        for number in range(300):
            await writer.say(*(f"{number}.{n} " for n in range(rng.randint(1, 5))))
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        await writer.complete()

    async def follow(writer: LogWriter, rng: random.Random) -> bytes:
        got, cursor = b"", START
        async with asyncio.timeout(45):
            while True:
                connections[0] += 1
                async with hub.reader(writer.job_id, cursor) as reader:
                    for _ in range(rng.randint(1, 6)):
                        chunk = await reader.chunk()
                        if not chunk:
                            return got
                        got += chunk
                    cursor = reader._subscriber.sent

    async with asyncio.TaskGroup() as group:
        readings = [
            (writer, group.create_task(follow(writer, random.Random(n)))) for writer in writers for n in range(25)
        ]
        for number, writer in enumerate(writers):
            group.create_task(write(writer, random.Random(number)))
    for writer, reading in readings:
        assert reading.result() == await writing.logged(writer.job_id)


async def test_a_slow_reader_is_sent_to_the_log_and_ends_exact(settings: Settings, writing: JobSide) -> None:
    small = settings.model_copy(update={"reader_bytes": 4096})
    writer = await writing.started()
    async with running_hub(small) as hub, hub.reader(writer.job_id, START) as slow:
        got = await read(slow, until=b"started")
        async with hub.reader(writer.job_id, writer.last) as quick:
            for number in range(50):
                said = await writer.say(f"{number} " + "x" * 300)
                assert await read(quick, until=said) == said
                waiting = slow._subscriber._pending_bytes + slow._subscriber._held_bytes
                assert waiting <= 4096 + len(said)
        assert not slow.live
        await writer.complete()
        assert got + await read(slow) == await writing.logged(writer.job_id)


async def test_a_page_of_the_log_is_no_larger_than_what_may_wait_for_a_reader(
    settings: Settings, writing: JobSide
) -> None:
    small = settings.model_copy(update={"reader_bytes": 4096})
    writer = await writing.started()
    for _ in range(40):
        await writer.say("x" * 300)
    await writer.complete()
    log = await writing.logged(writer.job_id)
    largest = max(map(len, await writing.entries(writer.job_id)))
    async with running_hub(small) as hub, hub.reader(writer.job_id, START) as reader:
        got = b""
        async with asyncio.timeout(TIMEOUT_S):
            while chunk := await reader.chunk():
                assert len(chunk) <= 4096 + largest
                got += chunk
    assert got == log


async def test_a_frame_too_large_for_the_channel_is_read_from_the_log(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, writer.last) as reader:
        await writer.say("before")
        await read(reader, until=b"before")
        large = await writer.say("x" * 100_000)
        assert await read(reader, until=large) == large
        after = await writer.say("after")
        assert await read(reader, until=after) == after


async def test_readers_lose_nothing_when_the_pubsub_connection_is_killed_again_and_again(
    hub: Hub, writing: JobSide
) -> None:
    writer = await writing.started()

    async def follow() -> bytes:
        async with hub.reader(writer.job_id, START) as reader:
            return await read(reader)

    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(follow()) for _ in range(10)]
        for number in range(200):
            await writer.say(str(number))
            if number % 40 == 20:
                await kill_pubsub(writing.client)
        await writer.complete()
    log = await writing.logged(writer.job_id)
    assert all(reading.result() == log for reading in readings)


async def test_a_terminal_event_whose_message_was_lost_is_found_by_the_tail_check(
    settings: Settings, writing: JobSide
) -> None:
    writer = await writing.started()
    async with (
        running_hub(settings, tail_check_s=0.02) as hub,
        job_side(settings, unheard=True) as unheard,
        hub.reader(writer.job_id, START) as reader,
    ):
        await read(reader, until=b"started")
        writer.job_side = unheard
        await writer.complete()
        assert (await read(reader)).startswith(b"event: completed\n")


async def test_a_tail_check_that_is_answered_with_an_error_is_not_the_last(
    settings: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await writing.started()
    async with (
        running_hub(settings, tail_check_s=0.02) as hub,
        job_side(settings, unheard=True) as unheard,
        hub.reader(writer.job_id, START) as reader,
    ):
        await read(reader, until=b"started")
        tails, errors = ReplayLog.tails, [ResponseError("WRONGTYPE")]

        async def refused_once(log: ReplayLog, job_ids: Sequence[str]) -> list[EventId | None]:
            if errors:
                raise errors.pop()
            return await tails(log, job_ids)

        monkeypatch.setattr(ReplayLog, "tails", refused_once)
        writer.job_side = unheard
        await writer.complete()
        assert (await read(reader)).startswith(b"event: completed\n")
        assert errors == []


async def test_a_lost_message_with_a_successor_is_found_by_it(hub: Hub, settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    async with job_side(settings, unheard=True) as unheard, hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        writer.job_side = unheard
        lost = await writer.say("lost")
        writer.job_side = writing
        received = await writer.say("received")
        assert await read(reader, until=b"received") == lost + received


async def test_a_message_that_is_none_of_ours_sends_readers_to_the_log(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        for nonsense in (b"nonsense", b"event: delta\n\n", b"\nid: x-y\n\n"):
            await writing.client.publish(writing.keys.channel(writer.job_id), nonsense)
            said = await writer.say("a")
            assert await read(reader, until=said) == said


async def test_a_job_that_is_begun_again_is_read_across_its_epochs(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        got = await read(reader, until=b"started")
        await writer.say("lost to a rollback")
        successor = await writing.begin(writer.job_id)
        await successor.say("kept")
        await successor.complete()
        assert got + await read(reader) == await writing.logged(writer.job_id)


async def test_a_cursor_inside_an_entry_gets_what_follows_it(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("a", "b", "c", "d")
    await writer.complete()
    cursor = EventId(writer.execution.epoch, 3)
    async with hub.reader(writer.job_id, cursor) as reader:
        log = [after_cursor(entry, cursor) for entry in await writing.entries(writer.job_id)]
        assert await read(reader) == b"".join(log)


async def test_a_reader_of_a_job_that_is_gone_is_told(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        await writing.client.delete(writing.keys.job(writer.job_id).record, writing.keys.job(writer.job_id).log)
        reader.lose()
        with pytest.raises(JobNotFound):
            await read(reader)


# Heartbeats.


async def test_a_quiet_reader_gets_a_heartbeat_and_a_busy_one_gets_none(
    settings: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub's own checks must not come between: its first one is due after one tick, whatever the period.
    monkeypatch.setattr(hub_module, "_TICK_S", NEVER_S)
    writer = await writing.started()
    async with running_hub(settings) as hub, hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        reader.heartbeat()  # it received something in this period
        reader.heartbeat()  # but nothing in that one
        assert await reader.chunk() == HEARTBEAT
        said = await writer.say("a")
        assert await reader.chunk() == said
        reader.heartbeat()
        said = await writer.say("b")
        assert await reader.chunk() == said


async def test_a_heartbeat_is_one_comment_line_without_a_blank_one(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    async with running_hub(settings, heartbeat_s=0.01) as hub, hub.reader(writer.job_id, writer.last) as reader:
        async with asyncio.timeout(TIMEOUT_S):
            assert [await reader.chunk() for _ in range(5)] == [b": hb\n"] * 5


async def test_a_reader_that_waits_for_redis_gets_heartbeats_too(settings: Settings, tmp_path: Path) -> None:
    async with (
        running_valkey(tmp_path) as valkey,
        a_private_job(settings, valkey) as (private, writer),
        running_hub(private, heartbeat_s=0.01) as hub,
        hub.reader(writer.job_id, START) as reader,
    ):
        await read(reader, until=b"started")
        await valkey.stop()
        async with asyncio.timeout(TIMEOUT_S):
            while hub.connected:
                assert await reader.chunk() == HEARTBEAT
            assert await reader.chunk() == HEARTBEAT


# Outages of Redis.


@asynccontextmanager
async def a_private_job(settings: Settings, valkey: EmbeddedValkey) -> AsyncIterator[tuple[Settings, LogWriter]]:
    """Yield a running job on a server that the test may stop."""
    private = settings.model_copy(update={"redis_url": valkey.url})
    async with job_side(private) as writing:
        yield private, await writing.started()


async def test_readers_are_broken_when_redis_is_away_for_longer_than_they_may_wait(
    settings: Settings, tmp_path: Path
) -> None:
    async with (
        running_valkey(tmp_path) as valkey,
        a_private_job(settings, valkey) as (private, writer),
        running_hub(private, redis_patience_s=0.2) as hub,
        hub.reader(writer.job_id, START) as reader,
    ):
        await read(reader, until=b"started")
        await valkey.stop()
        with pytest.raises(StreamBroken, match="Redis is away"):
            await read(reader)
        assert not hub.connected


async def test_readers_continue_when_redis_returns_in_time(settings: Settings, tmp_path: Path) -> None:
    async with (
        running_valkey(tmp_path) as valkey,
        a_private_job(settings, valkey) as (private, writer),
        running_hub(private, redis_patience_s=30) as hub,
        hub.reader(writer.job_id, START) as reader,
    ):
        got = await read(reader, until=b"started")
        await valkey.stop()
        await valkey.start()
        await writer.say("after the restart")
        await writer.complete()
        assert got + await read(reader) == await writer.job_side.logged(writer.job_id)


# Closing streams.


async def test_a_reader_that_can_return_is_broken_off_at_once_and_another_gets_what_waits_first(
    hub: Hub, writing: JobSide
) -> None:
    writer = await writing.started()
    async with (
        hub.reader(writer.job_id, START) as resumable,
        hub.reader(writer.job_id, START, resumable=False) as foreground,
        hub.reader(writer.job_id, START) as other,
    ):
        for each in (resumable, foreground, other):
            await read(each, until=b"started")
        said = await writer.say("a")
        await read(other, until=said)
        resumable.break_off("We close.")
        foreground.break_off("We close.")
        with pytest.raises(StreamBroken, match="We close"):
            await resumable.chunk()  # the pending bytes are in the log
        assert await foreground.chunk() == said
        with pytest.raises(StreamBroken, match="We close"):
            await foreground.chunk()


async def test_a_reader_that_has_the_terminal_event_is_not_broken_any_more(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.complete()
    async with hub.reader(writer.job_id, START) as reader:
        assert await reader.chunk()
        reader.break_off("We close.")
        assert await reader.chunk() == b""


async def test_waiting_for_the_end_of_a_job_ends_with_it_or_in_time(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    assert not await hub.ended(writer.job_id, writer.last, 0.01)
    waiting = asyncio.create_task(hub.ended(writer.job_id, writer.last, TIMEOUT_S))
    await writer.complete()
    assert await waiting


async def test_waiting_for_the_end_of_a_job_bears_being_broken_off(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    waiting = asyncio.create_task(hub.ended(writer.job_id, writer.last, TIMEOUT_S))
    await asyncio.sleep(0)
    (reader,) = hub.readers
    reader.break_off("We close.")
    assert not await waiting


async def test_the_hub_tells_when_its_last_reader_has_left(hub: Hub, writing: JobSide) -> None:
    await hub.emptied()
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        waiting = asyncio.create_task(hub.emptied())
        await read(reader, until=b"started")
        assert not waiting.done()
        assert hub.readers == [reader]
    async with asyncio.timeout(TIMEOUT_S):
        await waiting


async def test_a_reader_whose_send_does_not_return_is_let_go(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    metrics = Metrics()
    async with (
        running_hub(settings, metrics=metrics, send_timeout_s=0.05) as hub,
        hub.reader(writer.job_id, START) as reader,
    ):

        async def send() -> None:
            async with asyncio.timeout(TIMEOUT_S), asyncio.timeout(None) as reader.timeout:
                reader.sending_since = SystemClock().monotonic()
                await asyncio.Event().wait()

        with capture_logs() as logs, pytest.raises(TimeoutError):
            await send()
        assert reader.timeout is not None
        assert reader.timeout.expired()
        assert [line["event"] for line in logs] == ["reader.frozen"]
        assert metrics.frozen.of().value == 1
