"""Test the checks of one reaper, step by step: which jobs it ends, when, and which it leaves alone."""

import asyncio
from pathlib import Path

import pytest

from shared.model.errors import BrokenJob
from shared.model.jobs import Job
from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import State
from shared.store.jobs import JobRecords
from tests.interaction.reaper.left_jobs import LONG_S, left_behind, over
from tests.interaction.reaper.reaping import Reaping
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs, open_core
from tests.support.system import System, ask, running_worker
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.usefixtures("an_old_server")


async def test_a_job_that_is_due_for_a_check_is_checked_by_one_reaper_only(system: System) -> None:
    job_id = await system.submit()
    await over(system, job_id)
    await system.check_next(job_id)
    one, other = Reaping(system.core, ends=False), Reaping(system.core, ends=False)
    for reaper in (one, other, one):
        await reaper.sweep()

    assert one.ended == [(job_id, "deadline_passed")]
    assert other.ended == []


async def test_a_job_that_cannot_be_looked_at_does_not_keep_the_reaper_from_the_others(system: System) -> None:
    odd, other = [await system.submit() for _ in range(2)]
    for score, job_id in enumerate((odd, other), 1):
        await over(system, job_id)
        await system.check_next(job_id, score)
    reaper = Reaping(system.core, odd=odd)
    with captured_logs() as logs:
        await reaper.sweep()

    assert reaper.ended == [(other, "deadline_passed")]
    assert [line["job"] for line in logs.named("reaper.check_failed")] == [odd]


async def test_a_running_job_gets_a_moment_more_than_its_deadline_for_its_worker_to_end_it(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    seconds, _ = await system.core.client.time()
    reaper = Reaping(system.core)
    for age_s, ended in ((1, []), (3, [(job_id, "deadline_passed")])):
        await system.write(job_id, deadline=(seconds - age_s) * 1000)
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_a_cancelled_job_gets_a_moment_for_its_worker_to_end_it(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    await system.core.cancel(job_id)
    seconds, _ = await system.core.client.time()
    reaper = Reaping(system.core)
    for age_s, ended in ((0, []), (3, [(job_id, "cancelled")])):
        await system.write(job_id, cancel_at=(seconds - age_s) * 1000)
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_a_job_that_ends_while_it_is_looked_at_is_not_put_back(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await system.submit()
    load_many = JobRecords.load_many

    async def slow_load_many(store: JobRecords, job_ids: list[str]) -> list[Job | BrokenJob | None]:
        stale = await load_many(store, job_ids)
        monkeypatch.setattr(JobRecords, "load_many", load_many)
        assert await system.core.cancel(job_id) == "cancelled"
        await system.core.queue.done(job_id, DEFAULT_LANE)
        return stale

    monkeypatch.setattr(JobRecords, "load_many", slow_load_many)
    await system.check_next(job_id)
    with captured_logs() as logs:
        await Reaping(system.core).sweep()

    assert await system.queue_keys(job_id) == []
    assert logs.named("reconciler.put_back") == []


async def test_after_the_servers_start_workers_get_one_lease_before_jobs_are_ended(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    await system.write(job_id, deadline=1)
    reaper = Reaping(system.core, wait_s=10.0)
    for passed_s, ended in ((9.9, []), (0.2, [(job_id, "deadline_passed")])):
        reaper.time.now += passed_s
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_after_an_outage_workers_get_one_lease_before_jobs_are_ended(tmp_path: Path) -> None:
    async with running_valkey(tmp_path / "own-valkey") as valkey, open_core(valkey.url, "own") as core:
        job_id = await core.queued()
        await core.client.hset(core.keys.job(job_id).record, mapping={"deadline": 1})  # type: ignore[misc]
        reaper = Reaping(core, lease_s=10.0)
        with captured_logs() as logs:
            await valkey.stop()
            running = asyncio.create_task(reaper.run())
            await logs.wait_for("reaper.redis_lost")
            running.cancel()
            await asyncio.wait([running])
        await valkey.start()
        for passed_s, ended in ((9.0, []), (1.5, [(job_id, "deadline_passed")])):
            reaper.time.now += passed_s
            await core.client.zadd(core.keys.active, {job_id: 1})
            await reaper.sweep()
            assert reaper.ended == ended


async def test_a_job_that_is_in_order_is_left_alone(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(ask(timeout_s=LONG_S))
        await provider.call()
        await system.check_next(job_id)
        with captured_logs() as logs:
            reaper = Reaping(system.core)
            await reaper.sweep()
        assert reaper.ended == []
        assert logs.named("reconciler.put_back") == []
        (await provider.call()).end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert (await system.job(job_id)).status is State.COMPLETED
