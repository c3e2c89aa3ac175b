"""Decide whether the spec of a job may enter, and submit it.

Not here: making a spec (gateway/specs/spec_maker.py), recording and queueing (intake.py), showing jobs.
"""

import secrets

from gateway.admission.intake import Intake
from gateway.admission.parent_check import check_parents
from gateway.admission.strict_models import StrictModels
from gateway.http.middleware import current_request_id
from gateway.specs.kinds import ADMITTED_KINDS, AdmittedKinds
from gateway.specs.limits import Limits
from gateway.specs.spec_maker import SpecMaker
from shared.model.jobs import Job, JobIds, JobSpec
from shared.process.clock import Clock
from shared.store.jobs import JobRecords
from shared.store.memory_watch import MemoryWatch
from shared.store.queue import Queue
from shared.store.queue_admission import QueueAdmission
from shared.store.waiting_jobs import WaitingJobs

_RANDOM_BITS = 80


class Admission:
    """Admit jobs. `gateway` is the name of this process: its callers view the jobs that they wait for."""

    def __init__(
        self,
        store: JobRecords,
        queue: Queue,
        queue_admission: QueueAdmission,
        waiting: WaitingJobs,
        clock: Clock,
        limits: Limits,
        gateway: str,
        strict_models: StrictModels | None = None,
        memory: MemoryWatch | None = None,
        kinds: AdmittedKinds = ADMITTED_KINDS,
    ) -> None:
        self._intake = Intake(
            store,
            queue,
            queue_admission,
            waiting,
            max_depth=limits.max_depth,
            retention_s=limits.retention_s,
            listed_s=limits.listed_s,
            bounds=limits.bounds,
        )
        self._store = store
        self._clock = clock
        self._ids = JobIds()
        self.specs = SpecMaker(limits, gateway, kinds)
        self._strict_models = strict_models
        self._memory = memory

    def new_id(self) -> str:
        """Make an id for a future job."""
        return self._ids.next(self._clock.wall_ms(), secrets.randbits(_RANDOM_BITS))

    async def refuse_if_full(self) -> None:
        """Raise MemoryFull if the servers have no room for a new job."""
        if self._memory is not None:
            await self._memory.refuse_if_full()

    async def check_model(self, spec: JobSpec) -> None:
        """Raise ModelNotFound if models are strict, and the job has one that does not exist."""
        if self._strict_models is not None and spec.model:
            await self._strict_models.check(spec.model)

    async def submit(self, spec: JobSpec) -> Job:
        """Record and queue the job; return it, or the one that its Idempotency-Key has made before.

        Raises:
            BoundReached, IdempotencyConflict, JobNotFound, ModelNotFound, MemoryFull: nothing was stored.
        """
        await self.refuse_if_full()
        await self.check_model(spec)
        await check_parents(self._store, spec)
        return await self._intake.submit(spec, current_request_id())

    async def record_step(self, spec: JobSpec) -> Job:
        """Record a step of a workflow, which waits; the caller has checked its model and its parents.

        Raises:
            BoundReached: nothing was stored.
        """
        return await self._intake.submit(spec, current_request_id())
