"""Test the jobs that are not given up: a viewer is there, returns in time, or was never needed."""

from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.model.lifecycle import State
from tests.interaction.abandonment.requests import native
from tests.interaction.abandonment.routes import STREAMS, the_job
from tests.interaction.abandonment.states import LONG_S, SMALL, is_blocked, others_are_given_up, viewed_by
from tests.support.controlled_provider import ControlledProvider
from tests.support.log_writer import JobSide
from tests.support.system import System, running_system, running_worker
from tests.support.upstream import Upstream


async def test_a_page_that_is_loaded_again_in_time_cancels_nothing(settings: Settings, upstream: Upstream) -> None:
    long_waits = settings.model_copy(update={"disconnect_grace_s": LONG_S})
    async with running_system(long_waits) as system, running_worker(long_waits):
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        for _ in range(3):
            async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
                assert (await viewed_by(system, job_id, 1))["abandon_at"] is None
            assert (await viewed_by(system, job_id, 0))["abandon_at"] is not None
        await others_are_given_up(system)
        assert (await system.job(job_id)).status is State.RUNNING
        assert upstream.closed == 0


async def test_a_connected_reader_that_reads_nothing_counts_as_a_viewer(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        reader = await STREAMS["events"].open(system, SMALL, tokens=1_000_000)
        await is_blocked(system)
        job_id = await the_job(system)
        await system.check_next(job_id)
        await others_are_given_up(system)
        assert (await viewed_by(system, job_id, 1))["status"] == "running"
        assert upstream.closed == 0
        reader.close()
        await upstream.until(lambda: upstream.closed == 1)


@pytest.mark.parametrize("fields", [{}, {"on_disconnect": "continue"}], ids=str)
async def test_a_job_that_did_not_ask_for_it_continues(system: System, fields: dict[str, Any]) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(**fields)
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
            call = await provider.call()
        shown = await viewed_by(system, job_id, 0)
        assert (shown["on_disconnect"], shown["abandon_at"]) == ("continue", None)
        await others_are_given_up(system)
        call.end()
        assert (await system.story(job_id)).types[-1] == "completed"


async def test_a_viewer_that_arrives_during_abandonment_gets_the_end(system: System, writing: JobSide) -> None:
    job_id = await system.submit(native())
    writer = await writing.begin(job_id)
    await writer.say("Hello")
    await system.write(job_id, abandon_at=1)
    assert await system.core.store.abandon(job_id, 0) == "cancelling"
    async with system.reading(job_id) as read:
        assert [(await read()).type for _ in range(3)] == [EventType.QUEUED, EventType.STARTED, EventType.DELTA]
        await system.check_next(job_id)
        async with running_worker(system.settings):
            end = await read()
    assert (end.type, end.json()["error"]["code"]) == (EventType.CANCELLED, "abandoned")
