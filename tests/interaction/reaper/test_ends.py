"""Test that abandoned, expired and cancelled jobs end, though their workers are busy, frozen or gone."""

import pytest

from shared.model.events import EventType
from shared.store.jobs import EMPTY_SHA256
from tests.interaction.reaper.left_jobs import left_behind, over
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.processes import Processes
from tests.support.system import System, running_worker

pytestmark = pytest.mark.usefixtures("an_old_server")


SOON_S = 0.3


async def test_a_job_that_waits_past_its_deadline_expires_though_no_slot_is_free(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        running = await system.submit(model="running")
        await provider.call_for("running")
        waiting = await system.submit(model="waiting", timeout_s=SOON_S)
        story = await system.story(waiting)
        (await provider.call_for("running")).end()
        assert (await system.story(running)).types[-1] == "completed"

    assert await system.queue_keys(waiting) == []
    assert (story.types, story.code) == (["queued", "expired"], "deadline_passed")
    assert (story.end["usage"], story.end["sha256"]) == (None, EMPTY_SHA256)
    assert len(provider.calls) == 1


async def test_a_running_job_whose_worker_does_not_see_to_its_deadline_expires(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "some ", "words")
    await over(system, job_id)
    await system.check_next(job_id)
    async with running_worker(system.settings, ControlledProvider()):
        story = await system.story(job_id)

    assert (story.types, story.code) == (["queued", "started", "delta", "delta", "expired"], "deadline_passed")
    assert story.end["usage"]["source"] == "partial"
    assert story.end["usage"]["completion_tokens"] == 2
    assert await system.queue_keys(job_id) == []


async def test_an_abandoned_job_that_runs_is_cancelled_as_abandoned(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.say("Is anybody there?")
        await system.until(job_id, EventType.DELTA)
        await system.write(job_id, abandon_at=1)
        await system.core.queue.schedule_check([job_id], 0)
        story = await system.story(job_id)
        await call.until_closed()

    assert (story.types, story.code) == (["queued", "started", "delta", "cancelled"], "abandoned")
    assert story.end["usage"]["source"] == "partial"
    assert await system.queue_keys(job_id) == []


async def test_an_abandoned_job_that_waits_is_cancelled_as_abandoned(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        await system.submit(model="running")
        await provider.call_for("running")
        waiting = await system.submit(model="waiting")
        await system.write(waiting, abandon_at=1)
        await system.core.queue.schedule_check([waiting], 0)
        story = await system.story(waiting)

    assert (story.types, story.code) == (["queued", "cancelled"], "abandoned")


async def test_a_caller_that_returns_in_time_keeps_its_job(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        kept, abandoned = [await system.submit(model=model) for model in ("kept", "abandoned")]
        call = await provider.call_for("kept")
        for job_id, score in ((kept, 1), (abandoned, 2)):
            await system.write(job_id, abandon_at=1)
            await system.write(kept, abandon_at=10**14)
            await system.check_next(job_id, score)
        # The reaper has seen the other one first.
        assert (await system.story(abandoned)).code == "abandoned"
        call.end()
        assert (await system.story(kept)).types[-1] == "completed"


async def test_a_cancel_that_a_frozen_worker_does_not_answer_is_carried_out_by_another(system: System) -> None:
    async with controlled_upstream() as (provider, url), Processes(system.settings) as processes:
        frozen = await processes.worker(upstream_url=url)
        job_id = await system.submit()
        call = await provider.call()
        call.say("some ", "words")
        await system.until(job_id, EventType.DELTA, count=2)
        await processes.worker(upstream_url=url, lease_s=1.0)  # as long as it first waits, on a server that is young
        frozen.freeze()
        assert (await system.cancel(job_id))["status"] in ("cancelling", "cancelled")
        story = await system.story(job_id)
        call.say("never to be seen")
        frozen.thaw()
        await call.until_closed()
        assert await system.queue_keys(job_id) == []

    assert story.types == ["queued", "started", "delta", "delta", "cancelled"]
    assert story.code == "cancelled"
    assert story.end["usage"]["completion_tokens"] == 2
    assert (await system.story(job_id)).events == story.events
