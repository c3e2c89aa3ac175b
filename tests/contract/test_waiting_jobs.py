"""Test waiting jobs on both sides: the queue follows the record of a job, in any order of the writes."""

import pytest

from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.model.parents import OnParentFailure, ParentEnd, Parents
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB
from shared.store.queue import JOB_CHECK_S
from shared.store.waiting_jobs import SETTLED_AT_ONCE
from shared.store.wire.answers import Taken
from tests.support.core import RETENTION_S, Core, make_spec

LANE = "default"


async def submitted(core: Core, *parents: str, on_failure: OnParentFailure = OnParentFailure.FAIL) -> Job:
    """Admit and record a child, as a gateway does before it dies."""
    spec = make_spec(parents=Parents({f"p{number}": each for number, each in enumerate(parents)}, on_failure))
    await core.queue_admission.admit(spec, max_depth=1000, retention_s=RETENTION_S)
    return (await core.store.create(spec, 1)).job


async def completed(core: Core) -> str:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED)
    return execution.job_id


async def taken(core: Core, owner: str = "w.1") -> str | None:
    """Take the next job that is due; None if there is none."""
    answer = await core.queue.take([LANE], owner, 10.0)
    return answer.job_id if isinstance(answer, Taken) else None


async def due_now(core: Core, job_id: str) -> None:
    """Let a job that was admitted be due, as 5 s later."""
    await core.client.zadd(core.keys.lane(LANE), {job_id: 1}, xx=True)


async def members(core: Core, name: str) -> list[bytes]:
    found: list[bytes] = await core.client.zrange(f"{core.keys.ledgers}alice:{name}", 0, -1)
    return found


async def test_a_job_that_waits_is_in_no_lane_and_counts_as_waiting_for_its_tenant(core: Core) -> None:
    child = await submitted(core, await core.queued())

    for _ in range(2):
        await core.waiting.advance(child)

    assert await core.depth(LANE) == 0
    assert await core.client.exists(ARQ_JOB + child.id) == 1
    assert await members(core, "waiting") == [child.id.encode()]
    left_ms = await core.client.zscore(core.keys.active, child.id) - await core.store.time_ms()
    assert 0 < left_ms <= JOB_CHECK_S * 1000


async def test_a_job_whose_parents_have_completed_gets_into_its_lane(core: Core) -> None:
    child = await submitted(core, await completed(core), await completed(core))

    await core.waiting.advance(child)

    assert (await core.job(child.id)).status is State.QUEUED
    assert await core.client.llen(core.keys.wake_ups(LANE)) == 1  # type: ignore[misc]
    assert (await taken(core), await taken(core)) == (child.id, None)


async def test_a_worker_that_takes_a_waiting_job_takes_it_out_of_its_lane_with_its_claim(core: Core) -> None:
    child = await submitted(core, await core.queued())
    await due_now(core, child.id)
    assert await taken(core) == child.id
    assert await members(core, "running") == [child.id.encode()]

    await core.waiting.advance(child, owner="w.1")

    assert await core.depth(LANE) == 0
    assert await core.client.exists(ARQ_IN_PROGRESS + child.id) == 0
    assert (await members(core, "waiting"), await members(core, "running")) == ([child.id.encode()], [])


async def test_a_job_that_a_worker_has_taken_is_left_to_it(core: Core) -> None:
    child = await submitted(core, await core.queued())
    await due_now(core, child.id)
    await taken(core)

    await core.waiting.advance(child)

    assert await core.depth(LANE) == 1
    assert await core.client.exists(ARQ_IN_PROGRESS + child.id) == 1


async def test_the_children_of_a_job_are_settled_in_pages_and_leave_its_list(core: Core) -> None:
    parent = await core.running()
    children = [await submitted(core, parent.job_id) for _ in range(SETTLED_AT_ONCE + 1)]
    for child in children:
        await core.waiting.advance(child)
    await core.finish(parent, State.COMPLETED)

    await core.waiting.settle_children(parent.job_id, ParentEnd.COMPLETED)
    assert await core.client.exists(core.keys.job(parent.job_id).children) == 0
    await core.waiting.settle_children(parent.job_id, ParentEnd.COMPLETED)

    assert [await taken(core) for _ in children] == [child.id for child in children]
    assert await taken(core) is None


async def test_children_that_fail_with_a_job_leave_the_queue_and_are_announced(core: Core) -> None:
    parent = await core.running()
    child = await submitted(core, parent.job_id)
    await core.waiting.advance(child)
    await core.finish(parent, State.FAILED)

    async with core.listening(core.keys.control) as control:
        await core.waiting.settle_children(parent.job_id, ParentEnd.FAILED)
        assert [child.id.encode() in message for message in await control.received()] == [True]

    assert (await core.job(child.id)).error_code == "parent_failed"
    assert (await core.queue.due_for_check(hold_s=5.0, limit=9))[1] == [child.id]
    assert await members(core, "waiting") == []


# Late writers.


@pytest.mark.parametrize("end", [ParentEnd.COMPLETED, ParentEnd.FAILED])
async def test_a_process_that_read_the_record_before_the_parents_end_loses_no_wake_up(
    core: Core, end: ParentEnd
) -> None:
    parent = await core.running()
    child = await submitted(core, parent.job_id)
    await core.waiting.advance(child)
    await core.finish(parent, State(end.value))
    await core.waiting.settle_children(parent.job_id, end)

    await core.waiting.advance(child)

    assert await taken(core) == (child.id if end is ParentEnd.COMPLETED else None)


async def test_a_process_that_read_the_record_before_the_jobs_completion_leaves_it_to_the_reaper(core: Core) -> None:
    child = await submitted(core, await completed(core))
    await core.waiting.advance(child)
    await core.finish(await core.begin(child.id), State.COMPLETED)
    await core.queue.done(child.id, LANE)

    await core.waiting.advance(child)

    assert await core.depth(LANE) == 0
    assert (await core.queue.due_for_check(hold_s=5.0, limit=9))[1] == [child.id]
    assert await members(core, "waiting") == []


async def test_a_release_that_is_later_than_the_jobs_completion_leaves_it_to_the_reaper(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await core.running()
    child = await submitted(core, parent.job_id)
    await core.waiting.advance(child)
    await core.finish(parent, State.COMPLETED)
    restore = type(core.queue).restore

    async def late(*args: object, **how: object) -> bool:
        await core.finish(await core.begin(child.id), State.COMPLETED)
        await core.queue.done(child.id, LANE)
        return await restore(*args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(type(core.queue), "restore", late)
    await core.waiting.settle_children(parent.job_id, ParentEnd.COMPLETED)

    assert await core.depth(LANE) == 0
    assert (await core.queue.due_for_check(hold_s=5.0, limit=9))[1] == [child.id]


async def test_a_job_that_was_deleted_meanwhile_is_left_to_the_reaper(core: Core) -> None:
    child = await submitted(core, await core.queued())
    await core.client.delete(core.keys.job(child.id).record)

    await core.waiting.advance(child)

    assert await core.depth(LANE) == 0
    assert (await core.queue.due_for_check(hold_s=5.0, limit=9))[1] == [child.id]
