"""Restart any part: the answer's words stay the same, from every gateway."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
from structlog.stdlib import add_log_level

from shared.config.settings import Settings
from shared.model.events import EventType, decode_frame
from shared.store.client import REDIS_DOWN
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_RETRY
from shared.store.wire.answers import Written
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs, frames_of
from tests.support.gateway import running_gateway
from tests.support.processes import Processes, Running
from tests.support.system import System, ask, proven, read_story, running_system, running_worker
from tests.support.upstream import ask as scripted
from tests.support.upstream import expected_text
from tests.support.valkey import running_valkey


def client_of(gateway: Running) -> Client:
    port = urlsplit(gateway.url).port
    assert port is not None
    return Client(port)


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


async def test_a_finished_job_replays_byte_for_byte_after_everything_was_restarted(
    settings: Settings, tmp_path: Path
) -> None:
    body = scripted(tokens=500, seed=3, reasoning=5)
    async with Processes(settings) as outer:
        valkey = await outer.valkey(tmp_path / "own-valkey")
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with Processes(own) as processes:
            gateway, _ = await processes.gateway(), await processes.worker()
            client = client_of(gateway)
            made = await client.post("/v1/jobs", body)
            path = f"/v1/jobs/{made.json()['id']}"
            before = await client.get(f"{path}/events")
            shown = (await client.get(path)).json()
        await valkey.stop()
        await valkey.start()
        async with Processes(own) as processes:
            for again in (await processes.gateway(), await processes.gateway()):
                client = client_of(again)
                after = await client.get(f"{path}/events")
                assert (after.status, after.body) == (200, before.body)
                assert (await client.get(path)).json() == shown
                last = (await client.get(path)).json()["last_event_id"]
                assert (await client.get(f"{path}/events", headers={"Last-Event-ID": last})).status == 204

    events = [decode_frame(frame + b"\n\n") for frame in before.body.split(b"\n\n") if frame.startswith(b"event:")]
    assert proven(events).text == expected_text(body)


async def test_a_job_that_waited_through_a_restart_of_everything_is_run(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_system(own) as system:
            job_id = await system.submit()
        await valkey.stop()
        await valkey.start()
        async with (
            running_system(own) as system,
            running_worker(own, ControlledProvider(on_call=lambda call: call.end())),
        ):
            assert (await system.story(job_id)).types == ["queued", "started", "completed"]


async def test_half_of_a_running_job_from_each_of_two_gateways(system: System) -> None:
    provider = ControlledProvider()
    async with running_gateway(system.settings) as other, running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.say("One ", "half ")
        async with system.reading(job_id) as read:
            first = [await read() for _ in range(4)]
        call.say("and ", "the other.")
        headers = {"Last-Event-ID": str(first[-1].id)}
        async with other.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
            second = [decode_frame(frame) for frame in await response.frames(2)]
            call.end()
            second += await response.events()

    assert [event.type for event in second] == [EventType.DELTA, EventType.DELTA, EventType.COMPLETED]
    assert proven(first + second).text == "One half and the other."


async def test_a_restart_of_redis_in_mid_stream_is_unseen_by_readers(settings: Settings, tmp_path: Path) -> None:
    provider = ControlledProvider()
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_system(own) as system, running_worker(own, provider):
            job_id = await system.submit()
            call = await provider.call()
            call.say("Before, ")
            async with system.reading(job_id) as read:
                seen = [await read() for _ in range(3)]
                await valkey.stop()
                call.say("meanwhile ")
                await valkey.start()
                call.say("and after.")
                call.end()
                while seen[-1].type is not EventType.COMPLETED:
                    seen.append(await read())
            story = await system.story(job_id)

    assert seen == story.events
    assert story.types == ["queued", "started", *["delta"] * 3, "completed"]
    assert story.text == "Before, meanwhile and after."


async def test_a_redis_that_was_away_for_longer_than_a_lease_costs_no_running_job_its_start(
    settings: Settings, tmp_path: Path
) -> None:
    """Their claims have ended, and each worker could take the job that the other still runs."""
    provider = ControlledProvider()
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 4.0})
        async with running_system(own) as system, running_worker(own, provider), running_worker(own, provider):
            job_ids = [await system.submit(model=f"m{number}") for number in range(10)]
            calls = [await provider.call_for(f"m{number}") for number in range(10)]
            with captured_logs() as logs:
                await end_all_leases_and_the_server(system, job_ids)
                await valkey.died()
                await logs.wait_for("dispatcher.redis_lost", times=4)
                await valkey.start()
                await logs.wait_for("dispatcher.redis_back", times=2)
            for call in calls:
                call.say(call.model)
                call.end()
            stories = [await system.story(job_id) for job_id in job_ids]

    assert [story.types for story in stories] == [["queued", "started", "delta", "completed"]] * 10
    assert len(provider.calls) == 10


async def test_a_running_job_is_left_to_its_worker_for_a_lease_after_an_outage(
    settings: Settings, tmp_path: Path
) -> None:
    """A worker that finds its Redis later than others."""
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 60.0})
        async with running_system(own) as system:
            job_id = await system.submit(model="running elsewhere")
            execution = await system.core.begin(job_id, "other.1")
            await system.core.client.set(ARQ_RETRY + job_id, 1)  # as arq does for each job that it runs
            await system.core.client.zadd(system.lane, {job_id: 1e15})
            async with running_worker(own, provider):
                with captured_logs() as logs:
                    await end_all_leases_and_the_server(system, [job_id])
                    await valkey.died()
                    await logs.wait_for("dispatcher.redis_lost")
                    await valkey.start()
                    await logs.wait_for("dispatcher.redis_back")
                story = await system.story(await system.submit(model="new"))
                assert await system.core.append(frames_of(execution, 2, "still ", "mine")) == [Written()]

    assert story.types == ["queued", "started", "completed"]
    assert [call.model for call in provider.calls] == ["new"]


async def test_a_worker_that_starts_after_its_redis_leaves_a_running_job_to_its_worker_for_a_lease(
    settings: Settings, tmp_path: Path
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 60.0})
        async with running_system(own) as system:
            job_id = await system.submit(model="running elsewhere")
            execution = await system.core.begin(job_id, "other.1")
            await system.core.client.set(ARQ_RETRY + job_id, 1)
            await system.due(job_id)
            async with running_worker(own, provider):
                story = await system.story(await system.submit(model="new"))
                assert await system.core.append(frames_of(execution, 2, "still ", "mine")) == [Written()]

    assert story.types == ["queued", "started", "completed"]
    assert [call.model for call in provider.calls] == ["new"]


async def end_all_leases_and_the_server(system: System, job_ids: list[str]) -> None:
    """In one go, so that no worker sees the one without the other."""
    async with system.core.client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.delete(ARQ_IN_PROGRESS + job_id)
            pipe.zadd(system.lane, {job_id: 0}, xx=True)
        pipe.execute_command("SHUTDOWN", "NOSAVE", "NOW")
        with suppress(*REDIS_DOWN):
            await pipe.execute()


async def test_each_part_of_a_worker_logs_once_that_redis_is_lost_and_once_that_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    provider = ControlledProvider()
    parts = ("dispatcher.redis", "dispatcher.beat", "pump.redis", "reaper.redis")
    names = [*(f"{part}_{what}" for part in parts for what in ("lost", "back")), "feed.lost", "feed.back"]
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        own = settings.model_copy(update={"redis_url": valkey.url, "lease_s": 0.5})
        async with running_system(own) as system:
            with captured_logs() as logs:
                structlog.configure(processors=[add_log_level, logs])
                async with running_worker(own, provider):
                    job_id = await system.submit()
                    call = await provider.call()
                    await valkey.stop()
                    call.say("x")
                    for part in parts:
                        await logs.wait_for(f"{part}_lost", times=2)
                    await logs.wait_for("feed.lost", times=4)
                    await valkey.start()
                    for part in parts:
                        await logs.wait_for(f"{part}_back")
                    call.end()
                    story = await system.story(job_id)
                    await logs.wait_for("feed.back", times=2)  # the gateway's, too

    assert story.types[-1] == "completed"
    loud = Counter(name for name in names for event in logs.named(name) if event["level"] != "debug")
    once = {name: 1 for part in parts for name in (f"{part}_lost", f"{part}_back")}
    assert loud == {**once, "feed.lost": 2, "feed.back": 2}


async def test_the_events_of_a_job_are_the_same_for_each_reader_at_any_time(system: System) -> None:
    provider = ControlledProvider()
    async with running_gateway(system.settings) as other, running_worker(system.settings, provider):
        job_id = await system.submit(ask("Who reads?"))
        call = await provider.call()
        call.say("Everybody.")
        call.end()
        stories = [await read_story(client, job_id) for client in (system.client, other.client) for _ in range(2)]

    assert all(story.events == stories[0].events for story in stories)
