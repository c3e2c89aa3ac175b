"""Serve the events of a job byte by byte, the same to each reader, from any gateway and after a restart."""

import asyncio
from pathlib import Path

from shared.config.settings import Settings
from shared.model.events import decode_frame, split_frames
from tests.support.client import Client
from tests.support.events_api import address, ids
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide, LogWriter, job_side
from tests.support.valkey import running_valkey

# The bytes.


async def test_the_headers_of_a_stream_are_exactly_these(client: Client, running: LogWriter) -> None:
    async with client.stream("GET", address(running.job_id), headers={"Accept": "application/json"}) as stream:
        assert stream.status == 200
        headers = stream.headers
        assert headers.pop("x-request-id").startswith("req_")
        assert headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
            "x-tailrace-job": running.job_id,
            "transfer-encoding": "chunked",
        }


async def test_a_reader_gets_the_log_to_the_letter(client: Client, writing: JobSide, finished: LogWriter) -> None:
    async with client.stream("GET", address(finished.job_id)) as stream:
        assert await stream.rest() == await writing.logged(finished.job_id)
        assert stream.complete


async def test_a_long_log_comes_in_few_sends(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    for number in range(1000):
        await writer.say(str(number))
    await writer.complete()
    async with client.stream("GET", address(writer.job_id)) as stream:
        await stream.rest()
        assert len(stream.sends) <= 2


async def test_a_reader_follows_a_running_job_and_its_stream_ends_after_the_terminal_event_only(
    client: Client, writing: JobSide, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        said = await running.say("e")
        assert await stream.frame() == said
        assert stream.complete is None
        await running.complete()
        assert (await stream.frame()).startswith(b"event: completed\n")
        assert await stream.frame() == b""
        assert stream.complete


async def test_many_readers_of_one_job_get_the_same_bytes(client: Client, writing: JobSide, running: LogWriter) -> None:
    async def follow() -> bytes:
        async with client.stream("GET", address(running.job_id)) as stream:
            return await stream.rest()

    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(follow()) for _ in range(50)]
        for number in range(20):
            await running.say(str(number))
        await running.complete()
    assert {reading.result() for reading in readings} == {await writing.logged(running.job_id)}


async def test_a_quiet_stream_gets_heartbeats_between_frames(settings: Settings, writing: JobSide) -> None:
    writer = await writing.started()
    restless = settings.model_copy(update={"heartbeat_s": 0.01})
    async with running_gateway(restless) as gateway, gateway.client.stream("GET", address(writer.job_id)) as stream:
        await stream.frames(2)
        await stream.heartbeat()
        await stream.heartbeat()
        said = await writer.say("a")
        assert await stream.frame() == said


async def test_a_head_request_gets_the_headers_and_nothing_else(
    gateway: Gateway, client: Client, running: LogWriter
) -> None:
    async with client.stream("HEAD", address(running.job_id)) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-tailrace-job"] == running.job_id
        assert gateway.services.hub.readers == []
    await running.complete()
    assert (await client.request("HEAD", address(running.job_id, last_event_id="1-6"))).status == 204


# From gateway to gateway.


async def test_two_gateways_give_half_a_job_each(
    settings: Settings, gateway: Gateway, writing: JobSide, running: LogWriter
) -> None:
    async with running_gateway(settings) as other:
        async with gateway.client.stream("GET", address(running.job_id)) as stream:
            first = b"".join(await stream.frames(4))
        cursor = str(decode_frame(list(split_frames(first))[-1]).id)
        headers = {"Last-Event-ID": cursor}
        async with other.client.stream("GET", address(running.job_id), headers=headers) as stream:
            await running.say("e", "f")
            await running.complete()
            second = await stream.rest()
    assert first + second == await writing.logged(running.job_id)


async def test_everything_restarted_a_finished_job_replays_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway, job_side(private) as writing:
            writer = await writing.started()
            async with gateway.client.stream("GET", address(writer.job_id)) as stream:
                await writer.say("a", "b")
                await writer.say("naïve 東京 🌊 \u2028\n\ndata: x\r\n", {"reasoning_content": "hm"})
                await writer.complete()
                live = await stream.rest()
        await valkey.stop()
        await valkey.start()
        async with running_gateway(private) as gateway, gateway.client.stream("GET", address(writer.job_id)) as stream:
            assert await stream.rest() == live
            assert stream.complete


async def test_a_reader_loses_nothing_while_its_gateway_loses_its_pubsub_connection(
    client: Client, writing: JobSide, running: LogWriter
) -> None:
    async with client.stream("GET", address(running.job_id)) as stream:
        await stream.frames(6)
        for number in range(30):
            await running.say(str(number))
            if number % 10 == 5:
                await writing.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await running.complete()
        assert ids(await stream.events())[-1] == "1-36"
        assert stream.complete
