"""The queue's server forgets, the jobs' server does not: every job that was accepted runs all the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.embedded import EmbeddedValkey
from shared.events import EventType
from shared.settings import Settings
from tests.support.core import captured_logs, open_core
from tests.support.system import System, running_system, running_worker
from tests.support.told import Told
from tests.support.valkey import running_valkey


@pytest.fixture
async def queue_server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A server for the queue only."""
    async with running_valkey(tmp_path / "queue") as valkey:
        yield valkey


@pytest.fixture
async def system(settings: Settings, queue_server: EmbeddedValkey) -> AsyncIterator[System]:
    """A gateway whose queue lives there, and whose jobs live on the run's own Valkey."""
    own = settings.model_copy(update={"redis_url": queue_server.url, "stream_redis_url": settings.redis_url})
    async with running_system(own) as opened:
        yield opened


async def forget(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """It starts again without what it knew, as after a fail-over to a replica that had nothing yet."""
    await valkey.stop()
    for file in (tmp_path / "queue" / "appendonlydir").iterdir():
        file.unlink()
    await valkey.start()


async def test_jobs_that_the_queue_forgot_are_run_and_a_running_one_goes_on(
    system: System, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    told = Told(on_call=lambda call: None if call.model == "running" else call.end())
    settings = system.settings.model_copy(update={"worker_slots": 1})
    async with running_worker(settings, told):
        running = await system.submit(model="running")
        call = await told.call_for("running")
        call.say("before ")
        await system.until(running, EventType.DELTA)
        waiting = [await system.submit(model=f"waiting-{number}") for number in range(3)]
        with captured_logs() as logs:
            await forget(queue_server, tmp_path)
            await logs.wait_for("recovery.put_back", times=4)
        call.say("and after")
        call.end()
        story = await system.story(running)
        stories = [await system.story(job_id) for job_id in waiting]

    assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
    assert [each.types for each in stories] == [["queued", "started", "completed"]] * 3
    assert len(told.calls) == 4


async def test_a_fleet_that_was_restarted_together_with_its_queue_finds_what_was_forgotten(
    system: System, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    async with running_worker(system.settings, Told()):
        with captured_logs() as logs:
            await logs.wait_for("recovery.walked")
    job_id = await system.submit()
    await forget(queue_server, tmp_path)
    async with running_worker(system.settings, Told(on_call=lambda call: call.end())):
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]


async def test_jobs_are_walked_once_for_each_server(system: System) -> None:
    with captured_logs() as logs:
        async with running_worker(system.settings, Told()):
            await logs.wait_for("recovery.walked")
    run_id = (await system.core.queue.server()).run_id
    assert system.settings.stream_redis_url is not None
    async with open_core(system.settings.stream_redis_url, system.settings.key_prefix) as jobs:
        assert not await jobs.store.may_walk(run_id, 60.0)
        assert await jobs.store.may_walk("another", 60.0)
        assert not await jobs.store.may_walk("another", 60.0)
