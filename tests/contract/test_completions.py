"""Test the claims on the completion of ended jobs, and the way of an ended job out of its lane, on the real server."""

import asyncio
from dataclasses import replace

import pytest

from shared.model.ended_job import EndedJob
from shared.model.lifecycle import State
from shared.store.completions import Claimed, ClaimedElsewhere, NotEnded
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.wire.answers import ForgetAnswer, Taken
from tests.support.completion import CLAIM_S, completions_of
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, fresh_job_id, make_spec

LANE = "default"


async def ended(core: Core) -> str:
    """Make a job that was cancelled while it waited."""
    job_id = await core.queued()
    await core.cancel(job_id)
    return job_id


# Claims.


async def test_a_job_that_has_not_ended_and_one_without_a_record_have_nothing_to_complete(core: Core) -> None:
    completions = completions_of(core)

    assert await completions.claim(await core.queued()) == NotEnded()
    assert await completions.claim(fresh_job_id()) == NotEnded()


async def test_a_claim_has_the_record_of_the_job(core: Core) -> None:
    job_id = await ended(core)

    claim = await completions_of(core).claim(job_id)

    assert isinstance(claim, Claimed)
    expected = EndedJob(job_id, "alice", LANE, "chat", "a-model", State.CANCELLED, 0, None, "cancelled")
    assert replace(claim.job, times=expected.times) == expected
    assert (claim.job.times.ended_ms, claim.done) == ((await core.job(job_id)).ended_ms, frozenset())


async def test_a_claim_excludes_other_processes_and_not_its_own(core: Core) -> None:
    job_id, first, second = await ended(core), completions_of(core), completions_of(core)
    assert isinstance(await first.claim(job_id), Claimed)

    refusal = await second.claim(job_id)

    assert isinstance(refusal, ClaimedElsewhere)
    assert 0 < refusal.left_s <= CLAIM_S
    assert isinstance(await first.claim(job_id), Claimed)


async def test_one_of_many_concurrent_claims_is_granted(core: Core) -> None:
    job_id = await ended(core)

    answers = await asyncio.gather(*(completions_of(core).claim(job_id) for _ in range(10)))

    assert sum(isinstance(answer, Claimed) for answer in answers) == 1


async def test_a_claim_that_has_ended_may_be_taken_with_the_steps_that_are_done(core: Core) -> None:
    job_id, dead, heir = await ended(core), completions_of(core, 0.05), completions_of(core)
    await dead.claim(job_id)
    for step in ("one", "two", "one"):
        assert await dead.record(job_id, step)

    async with asyncio.timeout(TIMEOUT_S):
        while isinstance(claim := await heir.claim(job_id), ClaimedElsewhere):
            pass

    assert isinstance(claim, Claimed)
    assert claim.done == {"one", "two"}
    assert not await dead.record(job_id, "three")
    assert await core.client.hget(core.keys.job(job_id).record, "completed_steps") == b"one two"  # type: ignore[misc]


async def test_a_recorded_step_renews_the_claim(core: Core) -> None:
    job_id, completions, other = await ended(core), completions_of(core), completions_of(core)
    await completions.claim(job_id)
    first = await other.claim(job_id)
    assert isinstance(first, ClaimedElsewhere)
    # A renewal within the same millisecond would not show.
    async with asyncio.timeout(TIMEOUT_S):
        while not isinstance(left := await other.claim(job_id), ClaimedElsewhere) or left.left_s > first.left_s - 0.05:
            pass

    assert await completions.record(job_id, "one")

    renewed = await other.claim(job_id)
    assert isinstance(renewed, ClaimedElsewhere)
    assert renewed.left_s > left.left_s


async def test_a_worker_that_took_a_completed_job_leaves_no_count_of_its_retries(core: Core) -> None:
    job_id = await ended(core)
    await core.queue.done(job_id, LANE)
    await core.client.incr(ARQ_RETRY + job_id)  # arq counts it before its function runs

    await core.queue.leave_lane(job_id, LANE, 1.0)

    assert await core.client.exists(ARQ_RETRY + job_id) == 0


async def test_a_step_of_a_job_without_a_claim_or_a_record_is_not_recorded(core: Core) -> None:
    job_id, gone = await ended(core), fresh_job_id()

    assert not await completions_of(core).record(job_id, "one")
    assert not await completions_of(core).record(gone, "one")
    assert await core.client.exists(core.keys.job(gone).record) == 0


async def test_the_fields_of_a_claim_do_not_outlive_the_job(core: Core) -> None:
    job_id, completions = await ended(core), completions_of(core)
    await completions.claim(job_id)
    await completions.record(job_id, "one")

    assert 0 < await core.client.pttl(core.keys.job(job_id).record) <= RETENTION_S * 1000
    assert (await core.job(job_id)).status is State.CANCELLED


# Deletions.


async def test_a_job_that_was_cancelled_while_it_waited_is_only_hidden_until_its_completion(
    core: Core,
) -> None:
    job_id, other = await ended(core), await ended(core)
    record = core.keys.job(job_id).record

    assert await core.store.forget(job_id) is ForgetAnswer.HIDDEN
    assert await core.store.forget(job_id) is ForgetAnswer.HIDDEN

    assert 0 < await core.client.pttl(record) <= RETENTION_S * 1000
    claim = await completions_of(core).claim(job_id)
    assert isinstance(claim, Claimed)
    assert (await core.job(job_id)).hidden
    assert await core.store.forget(job_id) is ForgetAnswer.DELETED
    assert isinstance(await completions_of(core).claim(other), Claimed)
    assert await core.store.forget(other) is ForgetAnswer.DELETED


# Out of the lane.


@pytest.fixture
async def waiting(core: Core) -> str:
    """Admit a job, and let it be due."""
    spec = make_spec()
    await core.queue_admission.admit(spec, max_depth=10, retention_s=RETENTION_S)
    assert await core.queue_admission.release(spec.id, LANE)
    return spec.id


async def test_an_ended_job_that_leaves_its_lane_is_taken_by_no_worker_and_checked_by_the_reaper(
    core: Core, waiting: str
) -> None:
    for _ in range(2):
        await core.queue.leave_lane(waiting, LANE)

    assert not isinstance(await core.queue.take([LANE], "w.1", 10.0), Taken)
    assert (await core.queue.due_for_check(hold_s=5.0, limit=10))[1] == [waiting]
    assert await core.client.exists(ARQ_JOB + waiting) == 1
    assert await core.client.hexists(core.keys.reservations, waiting) == 0  # type: ignore[misc]
    assert await core.client.zcard(f"{core.keys.ledgers}alice:waiting") == 0


async def test_a_job_that_leaves_its_lane_is_checked_no_later_than_before(core: Core, waiting: str) -> None:
    await core.queue.leave_lane(waiting, LANE, 1.0)
    soon = await core.client.zscore(core.keys.active, waiting)
    await core.queue.leave_lane(waiting, LANE, 20.0)

    assert await core.client.zscore(core.keys.active, waiting) == soon
    assert (await core.queue.due_for_check(hold_s=5.0, limit=10))[1] == []


async def test_a_job_that_leaves_its_lane_loses_its_claim(core: Core, waiting: str) -> None:
    assert isinstance(await core.queue.take([LANE], "w.1", 10.0), Taken)

    await core.queue.leave_lane(waiting, LANE)

    assert await core.client.exists(ARQ_IN_PROGRESS + waiting) == 0


async def test_a_completed_job_does_not_return_when_a_slow_gateway_takes_it_out_of_its_lane(
    core: Core, waiting: str
) -> None:
    await core.queue.done(waiting, LANE)

    await core.queue.leave_lane(waiting, LANE)

    assert await core.client.zcard(core.keys.active) == 0
