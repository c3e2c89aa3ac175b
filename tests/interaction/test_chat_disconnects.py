"""Give up the job of a chat whose caller disconnects, unless another caller reads it or the caller returns in time.

Not here: what a caller that returns is sent (test_chat_resumed.py).
"""

import asyncio
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.jobs import VIEWER_LEASE_S
from shared.process.clock import SystemClock
from tests.support.chat_api import BODY, DONE, STREAM, abandoned_in_s, calling, reader_at
from tests.support.client import TIMEOUT_S, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide
from tests.support.processes import Processes
from tests.support.short_settings import with_long_holds
from tests.support.system import System, running_worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_job_is_cancelled_if_its_caller_disconnects_before_the_first_token(
    settings: Settings, system: System, provider: ControlledProvider, body: dict[str, Any]
) -> None:
    async with running_worker(settings, provider), calling(system.client, body) as call:
        asked = await provider.call()
        call.close()
        await asked.until_closed()
        (job,) = (await system.client.get("/v1/jobs")).json()["data"]
        story = await system.story(job["id"])
    assert (story.types, story.code) == (["queued", "started", "cancelled"], "abandoned")


async def test_a_job_is_cancelled_if_its_caller_disconnects_in_mid_answer(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with running_worker(settings, provider), calling(system.client, STREAM) as call:
        asked = await provider.call()
        asked.say("Hello")
        await call.read_head()
        await call.frames(2)
        call.close()
        await asked.until_closed()
        story = await system.story(call.headers["x-tailrace-job"])
    assert (story.types[-1], story.code, story.text) == ("cancelled", "abandoned", "Hello")


async def test_a_waiting_job_is_cancelled_if_its_caller_disconnects(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with calling(system.client, STREAM):
        await until(lambda: bool(system.gateway.services.hub.readers))
        (job,) = (await system.client.get("/v1/jobs")).json()["data"]
    await system.gateway.services.hub.emptied()
    await system.core.client.zrem(system.lane, job["id"])  # no worker takes it: the reaper has it alone
    await system.forgo_reconciling()
    async with running_worker(settings, provider):
        await system.over(job["id"])
        story = await system.story(job["id"])
    assert (story.types, story.code) == (["queued", "cancelled"], "abandoned")
    assert provider.calls == []


async def test_a_job_continues_if_its_caller_returns_in_time(settings: Settings, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    long_waits = settings.model_copy(update={"disconnect_grace_s": 20.0})
    async with running_gateway(long_waits) as gateway:
        async with calling(gateway.client, STREAM, headers=key):
            writer = await writing.take()
            await reader_at(gateway, writer.last)
        await gateway.services.hub.emptied()
        await gateway.services.viewer_heartbeat.report()
        assert 0 < await abandoned_in_s(writing, writer) <= 20
        async with calling(gateway.client, STREAM, headers=key):
            await until(lambda: bool(gateway.services.hub.readers))
            async with asyncio.timeout(TIMEOUT_S):
                while await abandoned_in_s(writing, writer) <= 20:
                    pass


async def test_one_caller_of_two_may_leave(gateway: Gateway, client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    async with calling(client, STREAM, headers=key) as one, calling(client, STREAM, headers=key) as two:
        writer = await writing.take()
        await until(lambda: len(gateway.services.hub.readers) == 2)
        one.close()
        await until(lambda: len(gateway.services.hub.readers) == 1)
        await gateway.services.viewer_heartbeat.report()
        assert await abandoned_in_s(writing, writer) > gateway.services.settings.disconnect_grace_s
        await writer.say("Hello")
        await writer.complete()
        await two.read_head()
        assert (await two.rest()).endswith(DONE)


async def test_a_disconnect_after_the_end_changes_nothing(gateway: Gateway, client: Client, writing: JobSide) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.complete()
        await call.read_head()
        await call.rest()
        before = await writing.store.load(writer.job_id)
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert await writing.store.load(writer.job_id) == before


async def test_a_native_job_continues_without_a_reader(gateway: Gateway, client: Client, writing: JobSide) -> None:
    job_id = (await client.post("/v1/jobs", BODY)).json()["id"]
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        await stream.frame()
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert (await writing.store.load(job_id)).abandon_ms == 0


async def test_the_readers_of_a_killed_gateway_do_not_keep_a_job_alive(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with Processes(settings) as processes, running_worker(settings, provider):
        gateway = await processes.gateway()
        client = Client(int(gateway.url.rpartition(":")[2]))
        async with calling(client, STREAM) as call:
            asked = await provider.call()
            asked.say("Hello")
            await call.read_head()
            await call.frames(2)
            await gateway.crash()
            assert await call.rest() == b""
            assert call.complete is False
        job_id = call.headers["x-tailrace-job"]
        given_up_at = (await system.job(job_id)).abandon_ms
        lasts_ms = (VIEWER_LEASE_S + system.settings.disconnect_grace_s) * 1000
        assert given_up_at <= SystemClock().wall_ms() + lasts_ms
        assert not asked.closed
        await system.write(job_id, abandon_at=1)  # that time has come
        await system.check_next(job_id)
        await asked.until_closed()
        assert (await system.story(job_id)).code == "abandoned"
