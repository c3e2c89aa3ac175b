"""Test the hand-off of a reader from the log to the live feed, under races, and that readers share what they can."""

import asyncio
import random

import pytest

from gateway.streams.hub import Hub
from shared.config.settings import Settings
from shared.model.errors import JobNotFound
from shared.model.events import START, EventId, after_cursor
from shared.store.client import Client
from shared.store.live_feed import LiveFeed
from shared.store.replay_log import Entry, Page, ReplayLog
from shared.store.wire.answers import Written
from tests.contract.hub.running import TIMEOUT_S, read, running_hub
from tests.support.log_writer import JobSide, LogWriter


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


async def pubsub_clients(client: Client) -> list[dict[str, str]]:
    """Return the connections that subscribe to something."""
    return [each for each in await client.client_list(_type="pubsub") if int(each["sub"]) > 0]


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


async def test_a_channel_without_readers_is_unsubscribed(hub: Hub, writing: JobSide) -> None:
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


async def test_a_reader_of_a_deleted_job_gets_job_not_found(hub: Hub, writing: JobSide) -> None:
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        await read(reader, until=b"started")
        await writing.client.delete(writing.keys.job(writer.job_id).record, writing.keys.job(writer.job_id).log)
        reader.lose()
        with pytest.raises(JobNotFound):
            await read(reader)
