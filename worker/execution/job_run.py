"""One job that this process runs: its attempts, one after the other, until it ends or leaves this process.

Not here: the set of all runs of this process (runs.py), the rules of the next attempt (next_attempt.py), the choice of
the next job and its lease (worker/dispatch).
"""

import asyncio
import random
from dataclasses import dataclass, replace
from enum import Enum

import structlog

from shared.model.ended_job import EndedJob, JobTimes
from shared.model.errors import (
    AttemptFailed,
    BrokenJob,
    DeadlinePassed,
    Drained,
    Interrupted,
    JobNotFound,
    LogBehind,
    PoisonJob,
    TailraceError,
    WorkerLost,
)
from shared.model.events import EventId
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.store.answers import BeginRefusal, RenewAnswer, StopReason, Written, has_ended
from shared.store.executions import Execution, Executions
from shared.store.jobs import Store
from shared.store.queue import Claim, Queue
from shared.store.replay_log import ReplayLog
from shared.store.retrying import retry_until_redis_answers
from shared.telemetry.metrics import Metrics
from worker.execution.access import TargetAccess
from worker.execution.attempt import AttemptInput
from worker.execution.ending import Ending, read_partial_answer
from worker.execution.executions import ExecutableKinds, ExecutionServices, RunningExecution
from worker.execution.job_end import JobEnder
from worker.execution.next_attempt import (
    NextAttempt,
    Plan,
    attempt_input,
    cause_of_interruption,
    continuable_targets,
    may_follow,
    refuses_to_continue,
    succession,
    target_orders,
)
from worker.model.digest import PartialAnswer
from worker.model.retry import Budget, RetryContext, after_loss, decide
from worker.model.token_estimate import SavedTokenEstimate
from worker.upstream.breakers import CallOrigin
from worker.upstream.selector import Permit

log = structlog.get_logger()

# A job without a concurrency permit gives its slot to another job for so long.
_NO_PERMIT_S = 0.5
# The causes of ends of an execution that do not count against its job.
_INTERRUPTIONS = {
    StopReason.DRAIN: Drained("The worker was stopped and handed the job on."),
    StopReason.BEHIND: LogBehind("Redis lost a part of the answer."),
}


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The costs that one job may cause: lost workers, and deltas that are generated again."""

    max_crashes: int
    max_regenerated_tokens: int


@dataclass(frozen=True, slots=True)
class RunServices:
    """The parts of the process that each run uses."""

    store: Store
    executions: Executions
    replay_log: ReplayLog
    queue: Queue
    providers: TargetAccess
    ender: JobEnder
    kinds: ExecutableKinds
    execution_services: ExecutionServices
    limits: RunLimits
    lease_s: float
    metrics: Metrics
    token_estimate: SavedTokenEstimate


class Disposition(Enum):
    """The state in which a run leaves its job."""

    ENDED = "it has ended"
    ELSEWHERE = "another worker has it, or will"
    UNKNOWN = "it has no record"


Outcome = Disposition | EndedJob | float
"""A job's disposition, its record if it completed here, or the seconds after which any worker may take it."""


def disposition(ended: bool) -> Disposition:
    """Return the disposition of a job that was run or ended here."""
    return Disposition.ENDED if ended else Disposition.ELSEWHERE


class JobRun:
    """One job, from its claim until it ends or leaves this process."""

    def __init__(self, claim: Claim, services: RunServices, *, draining: bool = False) -> None:
        self.claim = claim
        self.execution: RunningExecution | None = None
        """The attempt that runs now."""
        self._services = services
        self._store = services.store
        self._executions = services.executions
        self._access = services.providers
        self._draining = draining
        self._stop_reason: StopReason | None = None
        self._started_ms = 0

    def stop(self, reason: StopReason) -> None:
        """Stop the execution, or the next one as soon as it begins."""
        if self.execution is not None:
            self.execution.stop(reason)
        else:
            self._stop_reason = reason

    def drain(self) -> None:
        """Hand the job back as soon as possible."""
        self._draining = True
        if self.execution is not None:
            self.execution.stop(StopReason.DRAIN)

    async def run(self) -> Outcome:
        """Run the job to its end, or until this process loses it or hands it back."""
        job_id, owner = self.claim.job_id, self.claim.owner
        if self._draining:
            return 0.0
        try:
            plan = await self._load()
            if plan.job.ended:
                return Disposition.ENDED
            # The epoch of the record counts only if it was read while this process held the job.
            if not await self._holds():
                return Disposition.ELSEWHERE
            try:
                first = await self._first_attempt(plan)
            except (PoisonJob, Interrupted) as error:
                # If another worker has begun it since, this process was frozen in between.
                return disposition(await self._services.ender.end(job_id, owner, error, plan.job.last.epoch))
            return await self._attempts(plan, first)
        except JobNotFound:
            return Disposition.UNKNOWN
        except BrokenJob as error:
            log.warning("attempt.not_startable", reason=str(error))
            return disposition(await self._services.ender.end(job_id, owner, error))
        except TailraceError as error:
            return disposition(await self._services.ender.end(job_id, owner, error))

    async def _load(self) -> Plan:
        job, request = await retry_until_redis_answers(lambda: self._store.load_with_request(self.claim.job_id))
        if job.request_id:
            structlog.contextvars.bind_contextvars(request=job.request_id)
        kind = self._services.kinds.get(job.kind)
        if kind is None:
            raise BrokenJob(f"This version does not support jobs of kind {job.kind!r}.")
        self._access = kind.access or self._services.providers
        return Plan.of(job, request, self._access.chains.chain(job.model))

    async def _holds(self) -> bool:
        if asyncio.get_running_loop().time() < self.claim.good_until:
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
        partial, seen = await self._read_partial()
        progress, cause = job.progress, cause_of_interruption(job)
        if isinstance(cause, WorkerLost):
            progress = after_loss(progress, job.embedded.done if job.embedded else partial.deltas)
            if progress.crashes >= self._services.limits.max_crashes:
                raise PoisonJob(f"The job lost {progress.crashes} workers in a row without progress.")
        if not may_follow(plan, partial, progress):
            raise cause
        return NextAttempt(progress, owner, job.last.epoch, partial, seen, cause)

    async def _attempts(self, plan: Plan, upcoming: NextAttempt) -> Outcome:
        while True:
            outcome = await self._try(plan, upcoming)
            if not isinstance(outcome, NextAttempt):
                return outcome
            upcoming = outcome

    async def _try(self, plan: Plan, upcoming: NextAttempt) -> NextAttempt | Outcome:
        permit = await self._acquire(plan, upcoming)
        if permit is None:
            if upcoming.former is not None and upcoming.cause is not None:
                await self._leave(upcoming.former, upcoming.cause, upcoming.progress)
            return _NO_PERMIT_S
        try:
            given = attempt_input(plan, upcoming, permit)
            discarded = 0 if given.partial else upcoming.partial.deltas
            discarded_so_far = upcoming.progress.discarded_tokens + discarded
            progress = replace(upcoming.progress, target=permit.target, discarded_tokens=discarded_so_far)
            begun = await retry_until_redis_answers(lambda: self._begin(upcoming, given, permit, progress))
            if not isinstance(begun, BeginRefusal):
                self._count(plan, upcoming, begun, discarded)
                return await self._execute(plan, replace(upcoming, progress=progress), begun, given, permit)
        finally:
            await self._access.selector.leave(self.claim.job_id, permit)
        if begun is BeginRefusal.MOVED:
            # A worker may still write after its lease has ended. Only the log as it is when we begin can be continued.
            partial, seen = await self._read_partial()
            if not may_follow(plan, partial, upcoming.progress):
                raise upcoming.cause or WorkerLost.because_of_silence()
            return replace(upcoming, partial=partial, seen=seen)
        return await self._refused(begun)

    async def _acquire(self, plan: Plan, upcoming: NextAttempt) -> Permit | None:
        selector, job = self._access.selector, plan.job
        origin = CallOrigin(job.tenant, plan.request)
        first, others = target_orders(plan, upcoming)
        permit = await selector.enter(job.id, plan.chain.targets, first, job.model, origin)
        if permit is not None and permit.circuit_open and others:
            return await selector.enter(job.id, plan.chain.targets, others, job.model, origin)
        return permit

    async def _begin(
        self, upcoming: NextAttempt, given: AttemptInput, permit: Permit, progress: Progress
    ) -> Execution | BeginRefusal:
        return await self._executions.begin(
            self.claim.job_id,
            upcoming.owner,
            epoch=upcoming.epoch,
            model=permit.model,
            provider=permit.provider,
            after=succession(upcoming, given),
            progress=progress,
        )

    def _count(self, plan: Plan, upcoming: NextAttempt, begun: Execution, discarded: int) -> None:
        job, metrics = plan.job, self._services.metrics
        if not job.started_ms and upcoming.former is None:
            # Both times are the server's: the start of the execution follows from the time left until the deadline.
            self._started_ms = job.deadline_ms - begun.left_ms
            metrics.wait.of(job.lane).observe((self._started_ms - job.created_ms) / 1000)
        metrics.taken_back.of().add(discarded)

    async def _refused(self, refusal: BeginRefusal) -> Disposition:
        if refusal.job_has_ended:
            return Disposition.ENDED
        if refusal is BeginRefusal.STALE:
            return Disposition.ELSEWHERE
        ender, job_id, owner = self._services.ender, self.claim.job_id, self.claim.owner
        if refusal is BeginRefusal.CANCELLING:
            return disposition(await ender.end(job_id, owner, await ender.cancellation(job_id)))
        late = DeadlinePassed("The job's time-out passed before it could run.")
        return disposition(await ender.end(job_id, owner, late))

    async def _execute(
        self, plan: Plan, made: NextAttempt, begun: Execution, given: AttemptInput, permit: Permit
    ) -> NextAttempt | Outcome:
        log.debug("attempt.started", attempt=begun.attempt, epoch=begun.epoch, provider=permit.provider)
        execution = self._services.kinds[plan.job.kind].start(begun, given, self._services.execution_services)
        ending = await self._run_execution(execution)
        if isinstance(ending, AttemptFailed):
            self._access.selector.failed(self.claim.job_id, permit, ending)
            outcome = await self._after_failure(plan, made.progress, given, execution, ending)
            if outcome is not None:
                return outcome
            ending = execution.failed(ending)
        elif ending is not None:
            self._access.selector.succeeded(self.claim.job_id, permit)
        return await self._finish(plan, execution, ending, permit.provider)

    async def _run_execution(self, execution: RunningExecution) -> Ending | AttemptFailed | None:
        self.execution = execution
        reason = StopReason.DRAIN if self._draining else self._stop_reason
        if reason is not None:
            execution.stop(reason)
        try:
            return await execution.run()
        finally:
            # A stop that arrives from here on is meant for the next attempt.
            self._stop_reason = None
            self.execution = None

    async def _after_failure(
        self,
        plan: Plan,
        progress: Progress,
        given: AttemptInput,
        execution: RunningExecution,
        error: AttemptFailed,
    ) -> NextAttempt | float | None:
        """Return the next attempt after a failed one, or the wait until it; None if the job ends with the failure."""
        begun = execution.execution
        log.info("attempt.failed", code=error.code, shown=execution.shown, epoch=begun.epoch)
        partial, seen = PartialAnswer(), execution.last
        if execution.shown:
            partial, seen = await self._read_partial()
        of_the_rest = refuses_to_continue(given, execution.shown, error)
        if of_the_rest:
            progress = replace(progress, cannot_continue=(*progress.cannot_continue, progress.target))
        able = continuable_targets(plan, partial, progress)
        failure = RetryContext(error, len(plan.chain.targets), able, partial.deltas, execution.left_s, of_the_rest)
        budget = Budget(plan.chain.max_attempts, self._services.limits.max_regenerated_tokens)
        again = decide(failure, progress, budget, random.random())
        if again is None or not may_follow(plan, partial, again.progress):
            return None
        if again.after_s:
            await self._leave(begun, error, again.progress)
            return again.after_s
        owner = f"{self.claim.owner}.{begun.epoch}"
        return NextAttempt(again.progress, owner, begun.epoch, partial, seen, error, begun)

    async def _finish(self, plan: Plan, execution: RunningExecution, ending: Ending | None, provider: str) -> Outcome:
        answer = None if ending is None else await execution.finish(self._executions, ending)
        if ending is None or answer is None or execution.stopped is not None:
            return await self._after_stop(execution)
        completed = ending.state is State.COMPLETED
        if self._services.kinds[plan.job.kind].spec.streams_text and completed and has_ended(answer):
            self._services.token_estimate.record(plan.request, ending.data["usage"]["completion_tokens"])
        if answer is StopReason.CANCELLED:
            return disposition(await self._services.ender.end_cancelled(execution.execution))
        if completed and isinstance(answer, Written):
            times = JobTimes.by_deadline(plan.job, self._started_ms, execution.left_s, ending.first_token_left_s)
            return EndedJob.completed(plan.job, execution.execution.attempt, ending.data.get("usage"), provider, times)
        return disposition(has_ended(answer))

    async def _after_stop(self, execution: RunningExecution) -> Outcome:
        reason = execution.stopped
        log.info("attempt.stopped", reason=reason)
        if reason is StopReason.CANCELLED:
            return disposition(await self._services.ender.end_cancelled(execution.execution))
        if reason in _INTERRUPTIONS:
            await execution.flushed()
            cause = _INTERRUPTIONS[reason]
            await retry_until_redis_answers(lambda: self._executions.leave(execution.execution, cause, costs=False))
            return 0.0
        return disposition(reason is not None and reason.job_has_ended)

    async def _leave(self, begun: Execution, cause: AttemptFailed, progress: Progress) -> None:
        """Record that an attempt has failed and that the next one is made later."""
        await retry_until_redis_answers(lambda: self._executions.leave(begun, cause, costs=True, progress=progress))

    async def _read_partial(self) -> tuple[PartialAnswer, EventId]:
        return await retry_until_redis_answers(
            lambda: read_partial_answer(self._services.replay_log, self.claim.job_id)
        )
