"""Test that no event is lost if a connection or a message of the live feed is."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import ResponseError

from gateway.streams.hub import Hub
from shared.config.settings import Settings
from shared.model.events import START, EventId
from shared.store.client import Client
from shared.store.replay_log import ReplayLog
from tests.contract.hub.running import read, running_hub
from tests.support.log_writer import JobSide, job_side


async def kill_pubsub(client: Client) -> None:
    """Break all pub/sub connections, as a failover would."""
    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


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
