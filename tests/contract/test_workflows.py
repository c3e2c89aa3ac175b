"""Test the records of workflows: the gate of the first steps, which ends once all steps are recorded."""

import pytest

from shared.model.errors import IdempotencyConflict, TooManyBytes, Unavailable, WorkflowNotFound
from shared.model.jobs import LONGEST_TIMEOUT_S, Job
from shared.model.lifecycle import State
from shared.model.parents import OnParentFailure, ParentEnd, Parents
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.model.workflows import NewWorkflow, Workflow, workflow_id
from shared.store.workflows import RECORDING_S, Workflows
from tests.contract.test_kept_bytes import counted
from tests.support.core import RETENTION_S, Core, fresh_job_id, make_spec

STEPS = {"b": "job_2", "a": "job_1"}


@pytest.fixture
def workflows(core: Core) -> Workflows:
    return Workflows(core.client, core.keys, retention_s=RETENTION_S)


def new(key: str | None = None, fingerprint: str = "f1", tenant: str = "alice") -> NewWorkflow:
    return NewWorkflow(workflow_id(fresh_job_id()), tenant, key, fingerprint)


async def created(workflows: Workflows, wanted: NewWorkflow) -> Workflow:
    return await workflows.create(wanted, STEPS, UNBOUNDED)


async def first_step(core: Core, gate: str, policy: OnParentFailure = OnParentFailure.FAIL) -> Job:
    spec = make_spec(parents=Parents({}, policy), gate=gate)
    return (await core.store.create(spec, 1)).job


async def test_a_workflow_can_be_read_once_it_is_open(core: Core, workflows: Workflows) -> None:
    wanted = new()
    workflow = await created(workflows, wanted)
    with pytest.raises(WorkflowNotFound, match=workflow.id):
        await workflows.load(workflow.id)

    for _ in range(2):
        assert await workflows.open(wanted)

    assert await workflows.load(workflow.id) == workflow
    assert list(workflow.steps) == ["b", "a"]
    left_ms = await core.client.pttl(core.keys.workflow(workflow.id))
    assert LONGEST_TIMEOUT_S * 1000 < left_ms <= (LONGEST_TIMEOUT_S + RETENTION_S) * 1000


async def test_a_workflow_that_is_not_open_lives_for_a_minute(core: Core, workflows: Workflows) -> None:
    wanted = new()
    workflow = await created(workflows, wanted)

    assert 0 < await core.client.pttl(core.keys.workflow(workflow.id)) <= RECORDING_S * 1000
    await core.client.delete(core.keys.workflow(workflow.id))
    assert not await workflows.open(wanted)
    assert await core.client.exists(core.keys.workflow(workflow.id)) == 0


async def test_the_first_steps_wait_for_the_workflow(core: Core, workflows: Workflows) -> None:
    wanted = new()
    workflow = await created(workflows, wanted)
    step = await first_step(core, workflow.id)

    assert (step.status, step.awaited) == (State.WAITING, (workflow.id,))
    assert await core.children.register(step) == {}
    assert await core.children.listed(workflow.id, 9) == [step.id]
    await workflows.open(wanted)
    assert await core.children.register(step) == {workflow.id: ParentEnd.COMPLETED}
    (released,) = await core.children.settle(workflow.id, ParentEnd.COMPLETED, [step.id])
    assert released.status is State.QUEUED


@pytest.mark.parametrize("policy", OnParentFailure)
async def test_a_step_without_its_workflow_never_starts(core: Core, policy: OnParentFailure) -> None:
    gate = workflow_id(fresh_job_id())
    step = await first_step(core, gate, policy)

    assert await core.children.register(step) == {gate: ParentEnd.GONE}
    await core.children.settle(gate, ParentEnd.GONE, [step.id])

    job = await core.job(step.id)
    assert (job.status, job.error_code) == (State.FAILED, "parent_gone")
    assert job.outcome["error"]["message"] == f"The workflow {gate} could not be recorded."


async def test_the_bytes_of_a_workflow_count_until_it_is_gone(core: Core, workflows: Workflows) -> None:
    wanted = new()
    workflow = await created(workflows, wanted)
    before = await counted(core)
    assert before > 500
    await workflows.open(wanted)
    assert await counted(core) == before

    await workflows.drop(wanted)

    assert await counted(core) == 0
    assert await core.client.exists(core.keys.workflow(workflow.id)) == 0


async def test_a_tenant_without_room_gets_no_workflow(core: Core, workflows: Workflows) -> None:
    refused = new("once")
    with pytest.raises(TooManyBytes):
        await workflows.create(refused, STEPS, TenantBounds(bytes=100))

    assert await core.client.exists(core.keys.workflow(refused.id)) == 0
    assert await core.client.exists(core.keys.workflow_idempotency("alice", "once")) == 0


async def test_an_idempotency_key_makes_one_workflow_for_each_tenant(core: Core, workflows: Workflows) -> None:
    wanted = new("once")
    first = await created(workflows, wanted)
    with pytest.raises(Unavailable, match="still being recorded"):
        await created(workflows, new("once"))
    # The same call, sent again after a lost acknowledgement.
    assert (await created(workflows, wanted)).id == first.id
    await workflows.open(wanted)

    assert (await created(workflows, new("once"))).id == first.id
    assert (await created(workflows, new("once", tenant="bob"))).id != first.id
    assert (await created(workflows, new("twice"))).id != first.id
    with pytest.raises(IdempotencyConflict, match=first.id):
        await created(workflows, new("once", "f2"))
    left_ms = [await core.client.pttl(key) for key in keys_of(core, wanted)]
    assert abs(left_ms[0] - left_ms[1]) < 5_000


async def test_a_dropped_workflow_frees_its_idempotency_key(core: Core, workflows: Workflows) -> None:
    wanted = new("once")
    await created(workflows, wanted)
    await workflows.drop(wanted)

    assert [await core.client.exists(key) for key in keys_of(core, wanted)] == [0, 0]
    again = new("once", "f2")
    assert (await created(workflows, again)).id == again.id


def keys_of(core: Core, wanted: NewWorkflow) -> list[str]:
    return [core.keys.workflow(wanted.id), core.keys.workflow_idempotency(wanted.tenant, wanted.idempotency_key or "")]


async def test_a_step_that_waits_can_be_discarded_and_no_other_job(core: Core, workflows: Workflows) -> None:
    step = await first_step(core, workflow_id(fresh_job_id()))
    other = await core.job(await core.queued())
    before = await counted(core)

    for job in (step, step, other):
        await workflows.discard_step(job)

    assert await core.store.load_many([step.id, other.id]) == [None, other]
    assert await core.client.keys(f"*{step.id}*") == []
    assert await counted(core) < before
