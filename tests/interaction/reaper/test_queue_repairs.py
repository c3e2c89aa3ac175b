"""Test that jobs the queue has lost are found, and that entries it holds for nothing are removed."""

from typing import Any

import pytest

from shared.model.jobs import created_ms
from shared.store.keys import ARQ_JOB
from shared.store.wire.arq_messages import ARQ_FUNCTION, serialize
from tests.interaction.reaper.left_jobs import out_of_reach, over
from tests.interaction.reaper.reaping import Reaping
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs, fresh_job_id
from tests.support.system import System, running_worker

pytestmark = pytest.mark.usefixtures("an_old_server")


async def test_a_job_that_the_queue_has_lost_is_found_and_run(system: System) -> None:
    job_id = await system.submit()
    await system.lose(job_id)
    assert await system.queue_keys(job_id) == ["active"]
    await system.check_next(job_id)
    with captured_logs() as logs:
        async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
            story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert len(logs.named("reconciler.put_back")) == 1
    assert await system.queue_keys(job_id) == []


async def test_a_job_whose_message_alone_is_lost_is_found_and_run(system: System) -> None:
    job_id = await system.submit()
    await system.core.client.delete(ARQ_JOB + job_id)
    await out_of_reach(system, job_id)
    reaper = Reaping(system.core)
    await system.check_next(job_id)
    await reaper.sweep()
    assert await system.core.client.get(ARQ_JOB + job_id) == serialize(
        {"t": None, "f": ARQ_FUNCTION, "a": [job_id], "k": {}, "et": created_ms(job_id)}
    )
    await system.due(job_id)
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        assert (await system.story(job_id)).types[-1] == "completed"


async def test_queue_entries_of_an_ended_job_are_removed(system: System) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        before = (await system.story(job_id)).events
    # As if its worker had died between the terminal event and the last completion step.
    client = system.core.client
    await client.set(ARQ_JOB + job_id, b"{}")
    await client.zadd(system.lane, {job_id: 1e15})
    await client.zadd(system.core.keys.active, {job_id: 1})
    witness = await system.submit()
    await out_of_reach(system, witness)
    await over(system, witness)
    await system.check_next(witness, 2)
    async with running_worker(system.settings, provider):
        assert (await system.story(witness)).types[-1] == "expired"

    assert await system.queue_keys(job_id) == []
    assert (await system.story(job_id)).events == before
    assert len(provider.calls) == 1


@pytest.mark.parametrize("request_is_gone", [False, True])
async def test_a_job_that_has_ended_is_not_run_again_by_the_worker_that_takes_it(
    system: System, request_is_gone: bool
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        before = (await system.story(job_id)).events
        client = system.core.client
        if request_is_gone:
            await client.delete(system.core.keys.job(job_id).request)
        message: dict[str, Any] = {"t": None, "f": ARQ_FUNCTION, "a": [job_id], "k": {}, "et": created_ms(job_id)}
        await client.set(ARQ_JOB + job_id, serialize(message))
        await client.zadd(system.core.keys.active, {job_id: 1e15})
        await client.zadd(system.lane, {job_id: 1})
        # The only slot sees to it before.
        await system.story(await system.submit(model="next"))

    assert await system.queue_keys(job_id) == []
    assert (await system.story(job_id)).events == before
    assert [call.model for call in provider.calls] == ["mock", "next"]


async def test_a_job_without_a_record_is_forgotten(system: System) -> None:
    ghost = fresh_job_id()
    await system.core.client.zadd(system.core.keys.active, {ghost: 1})
    await system.core.client.set(ARQ_JOB + ghost, b"{}")
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert await system.queue_keys(ghost) == []
