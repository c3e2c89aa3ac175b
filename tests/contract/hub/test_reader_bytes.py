"""Test that a reader stays small: one that is slow, and one of large frames, is sent to the log."""

import asyncio

from gateway.streams.hub import Hub
from shared.config.settings import Settings
from shared.model.events import START
from tests.contract.hub.running import TIMEOUT_S, read, running_hub
from tests.support.log_writer import JobSide


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
