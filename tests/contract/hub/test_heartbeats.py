"""Test the heartbeats of quiet readers."""

import asyncio

import pytest

from gateway.streams import hub as hub_module
from gateway.streams.reader import HEARTBEAT
from shared.config.settings import Settings
from shared.model.events import START
from tests.contract.hub.running import NEVER_S, TIMEOUT_S, read, running_hub
from tests.support.log_writer import JobSide


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
