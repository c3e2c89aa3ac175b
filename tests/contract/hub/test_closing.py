"""Test how streams are closed: broken off, ended with their job, or disconnected."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.streams.hub import Hub
from gateway.streams.reader import StreamBroken
from shared.config.settings import Settings
from shared.model.events import START
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from tests.contract.hub.running import TIMEOUT_S, read, running_hub
from tests.support.log_writer import JobSide


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


async def test_emptied_returns_when_the_last_reader_has_left(hub: Hub, writing: JobSide) -> None:
    await hub.emptied()
    writer = await writing.started()
    async with hub.reader(writer.job_id, START) as reader:
        waiting = asyncio.create_task(hub.emptied())
        await read(reader, until=b"started")
        assert not waiting.done()
        assert hub.readers == [reader]
    async with asyncio.timeout(TIMEOUT_S):
        await waiting


async def test_a_reader_whose_send_does_not_return_is_disconnected(settings: Settings, writing: JobSide) -> None:
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
