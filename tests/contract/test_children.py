"""Test the atomic steps about parents and children: a child waits for all of its parents, and each end counts once."""

import pytest

from shared.model.lifecycle import State
from shared.model.parents import OnParentFailure, ParentEnd
from shared.store.children import Child
from tests.contract.stores import expiries, set_field
from tests.contract.test_kept_bytes import STEP, counted
from tests.support.core import RETENTION_S, Core, fresh_job_id

COMPLETED, FAILED, GONE = ParentEnd.COMPLETED, ParentEnd.FAILED, ParentEnd.GONE


async def settle(core: Core, parent_id: str, end: ParentEnd, child_id: str) -> Child:
    (child,) = await core.children.settle(parent_id, end, [child_id])
    return child


async def ended(core: Core, status: State) -> str:
    """Make a job that ended with this status."""
    execution = await core.running()
    await core.finish(execution, status)
    return execution.job_id


# Waiting.


async def test_a_child_is_recorded_with_its_parents_and_a_week_to_wait(core: Core) -> None:
    child = await core.waiting_for("job_a", "job_b", "job_a", timeout_s=5)

    assert (child.status, child.awaited, child.released_ms) == (State.WAITING, ("job_a", "job_b"), 0)
    assert child.parents is not None
    assert child.parents.jobs == {"p0": "job_a", "p1": "job_b", "p2": "job_a"}
    assert child.deadline_ms - child.created_ms == 7 * 86_400_000
    assert await core.story(child.id) == ["0-1 queued"]


async def test_the_bytes_of_a_childs_parents_count(core: Core) -> None:
    few = await core.waiting_for("job_a")
    assert await counted(core) == STEP
    many = await core.waiting_for(*(fresh_job_id() for _ in range(256)))
    assert await counted(core) == 3 * STEP

    for child in (few, many):
        await core.cancel(child.id)
    assert await counted(core) > 2 * 6144 + 256 * 2 * 31


async def test_a_child_registers_with_those_parents_that_have_not_ended(core: Core) -> None:
    running, completed = (await core.running()).job_id, await ended(core, State.COMPLETED)
    failed, waiting = await ended(core, State.FAILED), (await core.waiting_for("job_a")).id
    child = await core.waiting_for(running, completed, failed, waiting, "job_gone")

    for _ in range(2):
        assert await core.children.register(child) == {completed: COMPLETED, failed: FAILED, "job_gone": GONE}

    assert [await core.children.listed(each, 9) for each in (running, waiting)] == [[child.id]] * 2
    assert [await core.children.listed(each, 9) for each in (completed, failed, "job_gone")] == [[], [], []]
    assert [(await core.job(each)).has_children for each in (running, completed)] == [True, False]


async def test_a_parent_of_another_tenant_looks_gone_to_a_child(core: Core) -> None:
    foreign = await core.queued(tenant="bob")
    child = await core.waiting_for(foreign)

    assert await core.children.register(child) == {foreign: GONE}
    assert await core.children.listed(foreign, 9) == []


async def test_the_end_of_a_parent_tells_its_worker_of_children(core: Core) -> None:
    alone, parent = await core.running(), await core.running()
    await core.children.register(await core.waiting_for(parent.job_id))

    for execution, has_children in ((alone, False), (parent, True)):
        first = await core.finish(execution, State.COMPLETED, seq=2)
        again = await core.finish(execution, State.COMPLETED, seq=2)
        assert [getattr(answer, "has_children", None) for answer in (first, again)] == [has_children] * 2
        assert getattr(again, "repeated", None)


# Settled.


async def test_a_child_is_queued_once_its_last_parent_has_completed(core: Core) -> None:
    child = await core.waiting_for("job_a", "job_b", "job_c", timeout_s=5)

    for parent in ("job_b", "job_b", "job_x", "job_c"):
        assert (await settle(core, parent, COMPLETED, child.id)).status is State.WAITING
    released = await settle(core, "job_a", COMPLETED, child.id)
    again = await settle(core, "job_a", COMPLETED, child.id)

    assert [(each.status, each.changed) for each in (released, again)] == [(State.QUEUED, True), (State.QUEUED, False)]
    assert released.place == (child.id, "default", False, "alice")
    job = await core.job(child.id)
    assert (job.awaited, job.timeout_s) == ((), 5)
    assert job.created_ms <= job.released_ms


async def test_a_child_that_has_waited_for_long_gets_no_more_than_its_week(core: Core) -> None:
    child = await core.waiting_for("job_a", timeout_s=5)
    await set_field(core, child.id, deadline=child.created_ms + 2)

    await settle(core, "job_a", COMPLETED, child.id)

    assert (await core.job(child.id)).deadline_ms == child.created_ms + 2


@pytest.mark.parametrize(("end", "code"), [(FAILED, "parent_failed"), (GONE, "parent_gone")])
async def test_a_child_fails_with_the_first_parent_that_does_not_complete(
    core: Core, end: ParentEnd, code: str
) -> None:
    child = await core.waiting_for("job_a", "job_b", "job_c")
    async with core.listening(core.keys.channel(child.id)) as channel:
        failed = await settle(core, "job_b", end, child.id)
        later = await settle(core, "job_c", FAILED, child.id)
        live = await channel.received()

    assert [(each.status, each.changed) for each in (failed, later)] == [(State.FAILED, True), (State.FAILED, False)]
    job = await core.job(child.id)
    assert (job.status, job.error_code, job.dead_letter) == (State.FAILED, code, False)
    assert job.outcome["error"]["message"].startswith("The job job_b (p1) ")
    assert job.outcome["events"] == 2
    assert await core.story(child.id) == ["0-1 queued", "0-2 failed"]
    assert len(live) == 1
    assert (await core.log_bytes(child.id)).endswith(live[0])
    assert all(at > 0 for at in (await expiries(core, child.id))[:3])
    assert 0 < await core.client.pttl(core.keys.job(child.id).record) <= RETENTION_S * 1000


async def test_a_child_that_runs_on_failure_is_queued_after_any_ends(core: Core) -> None:
    child = await core.waiting_for("job_a", "job_b", "job_c", on_failure=OnParentFailure.RUN)

    statuses = [
        (await settle(core, parent, end, child.id)).status
        for parent, end in (("job_a", FAILED), ("job_b", GONE), ("job_c", COMPLETED))
    ]

    assert statuses == [State.WAITING, State.WAITING, State.QUEUED]


async def test_a_child_without_a_record_has_no_answer_and_holds_back_no_other_one(core: Core) -> None:
    child = await core.waiting_for("job_a")

    settled = await core.children.settle("job_a", COMPLETED, [fresh_job_id(), child.id])

    assert [(each.place.job_id, each.status) for each in settled] == [(child.id, State.QUEUED)]


@pytest.mark.parametrize("status", [State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED])
async def test_a_parents_end_changes_nothing_about_a_child_that_has_ended(core: Core, status: State) -> None:
    child = await core.waiting_for("job_a")
    if status is State.CANCELLED:
        await core.cancel(child.id)
    elif status is State.EXPIRED:
        await core.finish(await core.take_over(child.id), status)
    else:
        await settle(core, "job_a", COMPLETED, child.id)
        await core.finish(await core.begin(child.id), status)
    before = await core.log_bytes(child.id)

    late = await settle(core, "job_a", FAILED, child.id)

    assert (late.status, late.changed, await core.log_bytes(child.id)) == (status, False, before)
