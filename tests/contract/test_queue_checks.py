"""Test the scheduled checks of jobs on a real server, by which a reaper finds what no worker ends."""

import asyncio

import pytest
from arq.jobs import deserialize_job_raw

from shared.model.jobs import Abandonment
from shared.store.keys import ARQ_JOB
from shared.store.wire.arq_messages import deserialize
from tests.contract.queues import LANE, enqueue, server_ms, take, wake_ups
from tests.support.core import Core, fresh_job_id


async def check_ms(core: Core, job_id: str) -> int:
    """Return when the reaper should check a job (ms)."""
    return int(await core.client.zscore(core.keys.active, job_id))


@pytest.mark.parametrize(("first_viewer_timeout_s", "in_s"), [(None, 30), (60.0, 30), (8.0, 8)])
async def test_the_reaper_checks_when_a_job_may_be_over(
    core: Core, first_viewer_timeout_s: float | None, in_s: int
) -> None:
    before = await server_ms(core)
    spec = await enqueue(core, timeout_s=30.0, abandonment=Abandonment(first_viewer_timeout_s=first_viewer_timeout_s))
    after = await server_ms(core)

    assert before + in_s * 1000 <= await check_ms(core, spec.id) <= after + in_s * 1000
    assert (await core.queue.due_for_check(hold_s=5, limit=10))[1] == []


async def test_a_job_that_is_due_for_a_check_is_hidden_from_other_reapers(core: Core) -> None:
    spec = await enqueue(core)
    await core.queue.schedule_check([spec.id], 0)

    now, jobs = await core.queue.due_for_check(hold_s=5, limit=10)

    assert jobs == [spec.id]
    assert now <= await server_ms(core)
    assert await check_ms(core, spec.id) == now + 5_000
    assert (await core.queue.due_for_check(hold_s=5, limit=10))[1] == []


async def test_reapers_share_the_jobs_that_are_due(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(10)]
    await core.queue.schedule_check([spec.id for spec in specs], 0)

    shares = await asyncio.gather(*(core.queue.due_for_check(hold_s=60, limit=3) for _ in range(5)))

    seen = [job for _, share in shares for job in share]
    assert sorted(seen) == sorted(spec.id for spec in specs)
    assert max(len(share) for _, share in shares) == 3


async def test_a_look_can_be_asked_for_earlier_but_not_put_off_and_not_for_a_job_that_is_over(core: Core) -> None:
    spec = await enqueue(core, timeout_s=30.0)
    planned = await check_ms(core, spec.id)

    await core.queue.schedule_check([spec.id], 60.0)
    assert await check_ms(core, spec.id) == planned
    await core.queue.schedule_check([spec.id, unknown := fresh_job_id()], 2.0)
    assert await check_ms(core, spec.id) < planned
    assert await core.client.zscore(core.keys.active, unknown) is None
    await core.queue.schedule_check([], 1.0)


async def test_a_job_that_is_still_queued_is_only_checked_again_later(core: Core) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    await take(core, "w.1")
    score = await core.client.zscore(core.keys.lane(LANE), spec.id)
    await core.queue.schedule_check([spec.id], 0)
    now, _ = await core.queue.due_for_check(hold_s=5, limit=10)

    assert not await core.queue.restore((await core.job(spec.id)).place, 25.0, held_until_ms=now + 5_000)

    assert await core.client.zscore(core.keys.lane(LANE), spec.id) == score
    assert now + 25_000 <= await check_ms(core, spec.id) <= await server_ms(core) + 25_000


async def test_a_look_that_was_asked_for_while_the_reaper_held_the_job_is_not_put_off(core: Core) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    await core.queue.schedule_check([spec.id], 0)
    now, _ = await core.queue.due_for_check(hold_s=5, limit=10)
    await core.queue.schedule_check([spec.id], 2.0)
    asked = await check_ms(core, spec.id)

    await core.queue.restore((await core.job(spec.id)).place, 25.0, held_until_ms=now + 5_000)
    await core.queue.restore((await core.job(spec.id)).place, 25.0)

    assert await check_ms(core, spec.id) == asked


@pytest.mark.parametrize("lost", ["lane", "message", "all"])
async def test_a_job_that_the_queue_lost_is_put_back(core: Core, lost: str) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    if lost in ("lane", "all"):
        await core.client.zrem(core.keys.lane(LANE), spec.id)
    if lost in ("message", "all"):
        await core.client.delete(ARQ_JOB + spec.id)
    await core.client.delete(core.keys.wake_ups(LANE))

    assert await core.queue.restore((await core.job(spec.id)).place, 25.0)

    assert await wake_ups(core) == 1
    assert (await take(core)).job_id == spec.id
    raw = await core.client.get(ARQ_JOB + spec.id)
    assert list(deserialize_job_raw(raw, deserializer=deserialize)[1]) == [spec.id]
    assert await check_ms(core, spec.id) > 0
