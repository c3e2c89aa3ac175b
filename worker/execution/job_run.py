"""One job that this process runs, from its claim until it ends or leaves this process.

Not here: its attempts (attempt_sequence.py), the set of all runs of this process (runs.py), the choice of the next job
and its lease (worker/dispatch).
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from shared.model.errors import (
    BrokenJob,
    Interrupted,
    JobNotFound,
    PoisonJob,
    TailraceError,
    WorkerLost,
)
from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.store.queue import Claim
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import RenewAnswer, StoredJob
from worker.execution.access import TargetAccess
from worker.execution.attempt_sequence import AttemptSequence
from worker.execution.disposition import Disposition, Outcome, disposition
from worker.execution.next_attempt import (
    NextAttempt,
    Plan,
    cause_of_interruption,
    may_follow,
)
from worker.execution.run_services import RunServices
from worker.execution.stop_switch import StopSwitch
from worker.model.digest import PartialAnswer
from worker.model.retry import after_loss

log = structlog.get_logger()


class JobRun:
    """One job, from its claim until it ends or leaves this process."""

    def __init__(
        self, claim: Claim, services: RunServices, stored: StoredJob | None = None, *, draining: bool = False
    ) -> None:
        """Create the run of a claimed job; without `stored`, the job as it was taken, it is read first."""
        self.claim = claim
        self._stored = stored
        self.switch = StopSwitch(draining=draining)
        """Stops the attempt that runs now, or the next one."""
        self._services = services
        self._store = services.store

    async def run(self) -> Outcome:
        """Run the job to its end, or until this process loses it or hands it back."""
        job_id, owner = self.claim.job_id, self.claim.owner
        if self.switch.draining:
            return 0.0
        try:
            job, request = await self._read()
            if job.request_id:
                structlog.contextvars.bind_contextvars(request=job.request_id)
            if job.ended:
                return Disposition.ENDED
            if job.status is State.WAITING:
                return await self._wait(job)
            plan, access = self._plan(job, await self._services.parents.fill(job, request))
            # The epoch of the record counts only if it was read while this process held the job.
            if not await self._holds():
                return Disposition.ELSEWHERE
            try:
                first = await self._first_attempt(plan)
            except (PoisonJob, Interrupted) as error:
                # If another worker has begun it since, this process was frozen in between.
                return disposition(await self._services.ender.end(job_id, owner, error, plan.job.last.epoch))
            attempts = AttemptSequence(self.claim, plan, self._services, access.selector, self.switch)
            return await attempts.run(first)
        except JobNotFound:
            return Disposition.UNKNOWN
        except BrokenJob as error:
            log.warning("attempt.not_startable", reason=str(error))
            return disposition(await self._services.ender.end(job_id, owner, error))
        except TailraceError as error:
            return disposition(await self._services.ender.end(job_id, owner, error))

    async def _wait(self, job: Job) -> Outcome:
        """Take a job out of its lane that waits for its parents: the process that submitted it has died, or is slow."""
        owner = self.claim.owner
        await retry_until_redis_answers(lambda: self._services.waiting.advance(job, owner=owner))
        return Disposition.ELSEWHERE

    def _plan(self, job: Job, request: Mapping[str, Any]) -> tuple[Plan, TargetAccess]:
        kind = self._services.kinds.get(job.kind)
        if kind is None:
            raise BrokenJob(f"This version does not support jobs of kind {job.kind!r}.")
        access = kind.access or self._services.providers
        return Plan.of(job, request, access.chains.chain(job.model)), access

    async def _read(self) -> tuple[Job, dict[str, Any]]:
        job_id, stored, self._stored = self.claim.job_id, self._stored, None
        if stored is not None and self._claim_is_good():
            return self._store.read_taken(job_id, stored)
        return await retry_until_redis_answers(lambda: self._store.load_with_request(job_id))

    def _claim_is_good(self) -> bool:
        return asyncio.get_running_loop().time() < self.claim.good_until

    async def _holds(self) -> bool:
        if self._claim_is_good():
            return True
        services = self._services
        (answer,) = await retry_until_redis_answers(lambda: services.queue.renew([self.claim], services.lease_s))
        return answer is RenewAnswer.HELD

    async def _first_attempt(self, plan: Plan) -> NextAttempt:
        """Return the attempt to make of a job that was just taken.

        Raises:
            PoisonJob: the job has lost too many workers.
            Interrupted: the answer has begun, and can't be continued.
        """
        job, owner = plan.job, self.claim.owner
        if not job.last.epoch:
            return NextAttempt(job.progress, owner, 0, PartialAnswer())
        partial, seen = await self._services.read_partial(job.id)
        progress, cause = job.progress, cause_of_interruption(job)
        if isinstance(cause, WorkerLost):
            progress = after_loss(progress, job.embedded.done if job.embedded else partial.deltas)
            if progress.crashes >= self._services.limits.max_crashes:
                raise PoisonJob(f"The job lost {progress.crashes} workers in a row without progress.")
        if not may_follow(plan, partial, progress):
            raise cause
        return NextAttempt(progress, owner, job.last.epoch, partial, seen, cause)
