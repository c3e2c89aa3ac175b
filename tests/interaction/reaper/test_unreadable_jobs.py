"""Test jobs that a reaper can't read: they end, and never stop the others."""

import pytest

from shared.store.keys import ARQ_JOB
from shared.store.queue import JOB_CHECK_S
from tests.interaction.reaper.left_jobs import over
from tests.interaction.reaper.reaping import Reaping
from tests.support.core import captured_logs
from tests.support.system import System, running_worker

pytestmark = pytest.mark.usefixtures("an_old_server")


async def test_unreadable_jobs_do_not_stop_the_others(system: System) -> None:
    broken, waiting = [await system.submit(model=model) for model in ("broken", "waiting")]
    await system.write(broken, v=99)
    await over(system, waiting)
    await system.check_next(broken, 1)
    await system.check_next(waiting, 2)
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert reaper.ended == [(waiting, "deadline_passed")]


async def test_an_unreadable_job_that_the_queue_has_lost_is_found_and_ended(system: System) -> None:
    job_id = await system.submit()
    await system.write(job_id, v=99)
    await system.lose(job_id)
    await system.check_next(job_id)
    async with system.commands() as command, running_worker(system.settings.model_copy(update={"lease_s": 0.5})):
        await command(f"DEL {ARQ_JOB}{job_id}")

    assert await system.core.story(job_id) == ["0-1 queued", "1-1 failed"]
    assert await system.queue_keys(job_id) == []


async def test_an_unreadable_waiting_job_is_logged_once_per_check_period(system: System) -> None:
    job_id = await system.submit()
    await system.write(job_id, v=99)
    await system.check_next(job_id)
    with captured_logs() as logs:
        await Reaping(system.core).sweep()
    seconds, _ = await system.core.client.time()
    check_at_ms = await system.core.client.zscore(system.core.keys.active, job_id)

    assert len(logs.named("reaper.broken_job")) == 1
    assert check_at_ms is not None and check_at_ms / 1000 - seconds > JOB_CHECK_S - 5
    assert logs.named("reconciler.put_back") == []


async def test_an_unreadable_job_ends_at_its_deadline(system: System) -> None:
    early, late = [await system.submit() for _ in range(2)]
    for job_id in (early, late):
        await system.write(job_id, v=99)
        await system.check_next(job_id)
    await over(system, late)
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert reaper.ended == [(late, "deadline_passed")]


async def test_a_record_that_is_none_does_not_stop_the_others_and_is_logged_once(system: System) -> None:
    odd, other = [await system.submit() for _ in range(2)]
    await system.core.client.set(system.core.keys.job(odd).record, "not a hash")
    await over(system, other)
    reaper = Reaping(system.core, ends=False)
    with captured_logs() as logs:
        for score in (1, 2):
            for job_id in (odd, other):
                await system.check_next(job_id, score)
            await reaper.sweep()

    assert reaper.ended == [(other, "deadline_passed")] * 2
    assert len(logs.named("reaper.broken_job") + logs.named("reaper.check_failed")) == 1


async def test_an_unreadable_job_that_has_ended_is_removed_from_the_queue(system: System) -> None:
    job_id = await system.submit()
    await system.cancel(job_id)
    await system.write(job_id, v=99)
    await system.core.client.zadd(system.core.keys.active, {job_id: 1})
    await Reaping(system.core).sweep()

    assert await system.queue_keys(job_id) == []
