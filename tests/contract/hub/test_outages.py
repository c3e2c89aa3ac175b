"""Test readers while Redis is away: their heartbeats, and for how long they wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.streams.reader import HEARTBEAT, StreamBroken
from shared.config.settings import Settings
from shared.model.events import START
from shared.process.embedded_valkey import EmbeddedValkey
from tests.contract.hub.running import TIMEOUT_S, read, running_hub
from tests.support.log_writer import LogWriter, job_side
from tests.support.valkey import running_valkey


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
