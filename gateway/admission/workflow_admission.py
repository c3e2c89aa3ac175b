"""Submit the jobs of a workflow together: all are recorded before one of them may start, or none remains.

Not here: reading a workflow (gateway/specs/workflow_spec.py), and the submit of one job (admission.py).
"""

import structlog

from gateway.admission.admission import Admission
from gateway.admission.parent_check import check_parents_of_steps
from gateway.specs.workflow_spec import WorkflowSpec
from shared.model.errors import RedisUnavailable, TailraceError
from shared.model.jobs import Job
from shared.model.parents import ParentEnd
from shared.model.tenant_bounds import TenantBounds
from shared.model.workflows import NewWorkflow, Workflow
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.tenant_lists import TenantLists
from shared.store.waiting_jobs import WaitingJobs
from shared.store.workflows import Workflows

log = structlog.get_logger()


class WorkflowAdmission:
    """Admit workflows."""

    def __init__(
        self,
        admission: Admission,
        workflows: Workflows,
        store: JobRecords,
        queue: Queue,
        waiting: WaitingJobs,
        tenant_lists: TenantLists,
        bounds: TenantBounds,
    ) -> None:
        """Admit each job as `admission` does; `bounds` are those of each tenant."""
        self._admission = admission
        self._workflows = workflows
        self._store = store
        self._queue = queue
        self._waiting = waiting
        self._tenant_lists = tenant_lists
        self._bounds = bounds

    async def submit(self, workflow_id: str, tenant: str, spec: WorkflowSpec) -> Workflow:
        """Record all jobs of a workflow, and then let the first of them start.

        Return it, or the one that its Idempotency-Key has made before.

        Raises:
            BoundReached, IdempotencyConflict, JobNotFound, ModelNotFound, MemoryFull, Unavailable: no job remains.
        """
        await self._admission.refuse_if_full()
        for step in spec.steps.values():
            await self._admission.check_model(step)
        new = NewWorkflow(workflow_id, tenant, spec.idempotency_key, spec.fingerprint)
        workflow = await self._workflows.create(new, spec.jobs, self._bounds)
        if workflow.id == new.id:
            await self._record(new, spec)
        # Also for a repeated request: the gateway that recorded the workflow may have died before this.
        await self._waiting.settle_children(workflow.id, ParentEnd.COMPLETED)
        return workflow

    async def _record(self, new: NewWorkflow, spec: WorkflowSpec) -> None:
        recorded: list[Job] = []
        try:
            await check_parents_of_steps(self._store, spec.steps)
            for step in spec.steps.values():
                recorded.append(await self._admission.record_step(step))  # noqa: PERF401  # those before a refusal count
            if not await self._workflows.open(new):
                raise RedisUnavailable("Recording the workflow took too long; try again.")
        except TailraceError:
            await self._discard(new, recorded)
            raise
        log.info("workflow.submitted", workflow=new.id, tenant=new.tenant, steps=len(recorded))

    async def _discard(self, new: NewWorkflow, recorded: list[Job]) -> None:
        """Delete the jobs that were recorded. Those that a crash leaves behind fail, since their workflow is gone."""
        await self._workflows.drop(new)
        for job in reversed(recorded):
            await self._workflows.discard_step(job)
            await self._queue.done(job.id, job.lane)
        await self._tenant_lists.unlist(new.tenant, [job.id for job in recorded])
