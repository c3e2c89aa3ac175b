"""End a stream of events: broken off by its gateway, without its job, or left by a reader that is too slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.streams import hub as hub_module
from shared.config.settings import Settings
from tests.support.client import TIMEOUT_S, Response
from tests.support.events_api import RETRY, address
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide, LogWriter


async def test_a_stream_that_is_broken_off_has_a_time_to_retry_and_never_ends_properly(
    gateway: Gateway, running: LogWriter
) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        (reader,) = gateway.services.hub.readers
        reader.break_off("We close.")
        assert RETRY.fullmatch(await stream.rest())
        assert stream.complete is False


async def test_a_stream_whose_job_vanishes_is_broken_and_the_next_one_is_not_found(
    gateway: Gateway, writing: JobSide, running: LogWriter
) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        keys = writing.keys.job(running.job_id)
        await writing.client.delete(keys.record, keys.log, keys.request)
        (reader,) = gateway.services.hub.readers
        reader.lose()
        assert RETRY.fullmatch(await stream.rest())
        assert stream.complete is False
    assert (await gateway.client.get(address(running.job_id))).status == 404


async def test_a_reader_that_leaves_is_forgotten_at_once(gateway: Gateway, running: LogWriter) -> None:
    async with gateway.client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        assert len(gateway.services.hub.readers) == 1
    async with asyncio.timeout(TIMEOUT_S):
        await gateway.services.hub.emptied()


@asynccontextmanager
async def slow_reader(settings: Settings, writer: LogWriter) -> AsyncIterator[tuple[Gateway, Response]]:
    """Open a reader with a small socket, which has read two events and reads nothing until the test does."""
    small = settings.model_copy(update={"send_timeout_s": 0.5, "reader_bytes": 8192})
    async with (
        running_gateway(small) as gateway,
        gateway.client.stream("GET", address(writer.job_id), receive_buffer=4096) as stream,
    ):
        await stream.frames(2)
        yield gateway, stream


@pytest.mark.parametrize("ends", [False, True], ids=["running", "finished"])
async def test_a_frozen_reader_is_closed_and_costs_no_memory(
    settings: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(hub_module, "_TICK_S", 0.01)
    writer = await writing.started()
    async with slow_reader(settings, writer) as (gateway, stream):
        (reader,) = gateway.services.hub.readers
        for _ in range(400):  # 4 MB: more than socket buffers take
            await writer.say("x" * 10_000)
            subscriber = reader._subscriber
            assert subscriber._pending_bytes + subscriber._held_bytes <= 8192 + 10_100
        if ends:
            await writer.complete()
        async with asyncio.timeout(TIMEOUT_S):
            await gateway.services.hub.emptied()
        await until(lambda: not gateway.connections)  # the kernel gives the socket up, not the client
        assert b"completed" not in await stream.rest()
        assert stream.complete is False


async def test_a_slow_reader_gets_everything_in_the_end(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    async with slow_reader(settings, writer) as (_, stream):
        for _ in range(30):
            await writer.say("x" * 10_000)
        await writer.complete()
        assert len(await stream.events()) == 31
        assert stream.complete
