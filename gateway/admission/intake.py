"""Record and queue a job: an interrupted submit leaves either nothing or a job.

Admit, create, release: a 202 is sent only after all three. Not here: which request becomes a job (admission.py).
"""

from dataclasses import replace

import structlog

from shared.model.errors import JobNotFound, TooManyBytes
from shared.model.jobs import Job, JobSpec
from shared.model.lifecycle import State
from shared.model.tenant_bounds import TenantBounds
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.queue_admission import Admitted, QueueAdmission
from shared.store.waiting_jobs import FIRST_CHECK_S, WaitingJobs

log = structlog.get_logger()


class Intake:
    """Put specs into the store and the queue."""

    def __init__(
        self,
        store: JobRecords,
        queue: Queue,
        queue_admission: QueueAdmission,
        waiting: WaitingJobs,
        *,
        max_depth: int,
        retention_s: float,
        listed_s: float,
        bounds: TenantBounds,
    ) -> None:
        """Admit at most `max_depth` waiting jobs for each lane, and for each tenant as many as `bounds` allow.

        An Idempotency-Key is valid for `retention_s`; a job is listed for `listed_s` after its end.
        """
        self._store = store
        self._queue = queue
        self._queue_admission = queue_admission
        self._waiting = waiting
        self._max_depth = max_depth
        self._retention_s, self._listed_s = retention_s, listed_s
        self._bounds = bounds

    async def submit(self, spec: JobSpec, request_id: str = "") -> Job:
        """Admit, create and release a job; return it as it was created, or as it is by now.

        `request_id` names the request that submits it.

        Raises:
            BoundReached, IdempotencyConflict: nothing was stored.
        """
        admission = await self._admit(spec)
        while admission.existing:
            if (job := await self._kept(admission.job_id)) is not None:
                return job
            if not await self._queue_admission.free_key(spec, admission.job_id):
                # After a crash between `admit` and `create`, or a loss of the job by the server: use the same id again.
                spec = replace(spec, id=admission.job_id)
                break
            admission = await self._admit(spec)
        placed = max(admission.position, 1)
        try:
            created = await self._store.create(
                spec, placed, again=admission.existing, bounds=self._bounds, request_id=request_id
            )
        except TooManyBytes:
            await self._queue_admission.withdraw(spec)
            raise
        if created.new:
            log.info("job.submitted", job=spec.id, tenant=spec.tenant, lane=spec.lane, kind=spec.kind, model=spec.model)
        if spec.parents is not None and created.job.status is State.WAITING:
            await self._waiting.advance(created.job, FIRST_CHECK_S)
            return await self._store.load(spec.id)
        if await self._queue_admission.release(spec.id, spec.lane):
            return created.job
        job = await self._store.load(spec.id)
        if not job.ended:
            # The release was so late that a worker took the job before its record existed, and dropped it; or it runs.
            await self._queue.restore(
                job.place, min(spec.timeout_s, spec.abandonment.first_viewer_timeout_s or spec.timeout_s)
            )
        return job

    async def _admit(self, spec: JobSpec) -> Admitted:
        how = {"retention_s": self._retention_s, "listed_s": self._listed_s}
        return await self._queue_admission.admit(spec, max_depth=self._max_depth, bounds=self._bounds, **how)

    async def _kept(self, job_id: str) -> Job | None:
        """Load the job of an Idempotency-Key; None if it was deleted, or is not recorded yet."""
        try:
            job = await self._store.load(job_id)
        except JobNotFound:
            return None
        return None if job.hidden else job
