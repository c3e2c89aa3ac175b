"""The attempts of one job that this process runs, one after the other.

Each takes a concurrency permit, begins an execution, runs it, and ends the job or leads to the next attempt. Not here:
the checks before the first attempt (job_run.py), and the rules of the next one (next_attempt.py).
"""

import random
from dataclasses import replace

import structlog

from shared.model.ended_job import EndedJob, JobTimes
from shared.model.errors import (
    AttemptFailed,
    DeadlinePassed,
    Drained,
    LogBehind,
    WorkerLost,
)
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.store.executions import Execution
from shared.store.queue import Claim
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import BeginRefusal, StopReason, Written, has_ended
from worker.execution.access import Selector
from worker.execution.attempt import AttemptInput
from worker.execution.disposition import Disposition, Outcome, disposition
from worker.execution.ending import Ending
from worker.execution.executions import RunningExecution
from worker.execution.next_attempt import (
    NextAttempt,
    Plan,
    attempt_input,
    continuable_targets,
    deltas_offset,
    may_follow,
    refuses_to_continue,
    succession,
    target_orders,
)
from worker.execution.run_services import RunServices
from worker.execution.stop_switch import StopSwitch
from worker.model.digest import PartialAnswer
from worker.model.retry import Budget, RetryContext, decide
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


class AttemptSequence:
    """The attempts of one job, from its first one here."""

    def __init__(self, claim: Claim, plan: Plan, services: RunServices, selector: Selector, switch: StopSwitch) -> None:
        self._claim = claim
        self._plan = plan
        self._services = services
        self._executions = services.executions
        self._selector = selector
        self._switch = switch
        self._started_ms = 0

    async def run(self, first: NextAttempt) -> Outcome:
        """Make one attempt after the other until the job ends or leaves this process.

        Raises:
            AttemptFailed: no further attempt may follow the last one, which did not begin.
        """
        upcoming = first
        while True:
            outcome = await self._try(upcoming)
            if not isinstance(outcome, NextAttempt):
                return outcome
            upcoming = outcome

    async def _try(self, upcoming: NextAttempt) -> NextAttempt | Outcome:
        permit = await self._acquire(upcoming)
        if permit is None:
            if upcoming.former is not None and upcoming.cause is not None:
                await self._leave(upcoming.former, upcoming.cause, upcoming.progress)
            return _NO_PERMIT_S
        try:
            given = attempt_input(self._plan, upcoming, permit)
            discarded = 0 if given.partial else upcoming.partial.deltas
            discarded_so_far = upcoming.progress.discarded_tokens + discarded
            progress = replace(
                upcoming.progress,
                target=permit.target,
                discarded_tokens=discarded_so_far,
                expected_tokens=self._expected_tokens(),
                deltas_offset=deltas_offset(upcoming, given),
            )
            begun = await retry_until_redis_answers(lambda: self._begin(upcoming, given, permit, progress))
            if not isinstance(begun, BeginRefusal):
                self._count(upcoming, begun, discarded)
                return await self._execute(replace(upcoming, progress=progress), begun, given, permit)
        finally:
            await self._selector.leave(self._claim.job_id, permit)
        if begun is BeginRefusal.MOVED:
            # A worker may still write after its lease has ended. Only the log as it is when we begin can be continued.
            partial, seen = await self._services.read_partial(self._claim.job_id)
            if not may_follow(self._plan, partial, upcoming.progress):
                raise upcoming.cause or WorkerLost.because_of_silence()
            return replace(upcoming, partial=partial, seen=seen)
        return await self._refused(begun)

    async def _acquire(self, upcoming: NextAttempt) -> Permit | None:
        selector, plan, job = self._selector, self._plan, self._plan.job
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
            self._claim.job_id,
            upcoming.owner,
            epoch=upcoming.epoch,
            model=permit.model,
            provider=permit.provider,
            after=succession(upcoming, given),
            progress=progress,
        )

    def _expected_tokens(self) -> int:
        """Return the tokens that the answer is expected to have; 0 if that is not known."""
        streams_text = self._services.kinds[self._plan.job.kind].spec.streams_text
        return self._services.token_estimate.expected(self._plan.request) if streams_text else 0

    def _count(self, upcoming: NextAttempt, begun: Execution, discarded: int) -> None:
        job, metrics = self._plan.job, self._services.metrics
        if not job.started_ms and upcoming.former is None:
            # Both times are the server's: the start of the execution follows from the time left until the deadline.
            self._started_ms = job.deadline_ms - begun.left_ms
            metrics.wait.of(job.lane).observe((self._started_ms - job.ready_ms) / 1000)
        metrics.taken_back.of().add(discarded)

    async def _refused(self, refusal: BeginRefusal) -> Disposition:
        if refusal.job_has_ended:
            return Disposition.ENDED
        if refusal in (BeginRefusal.STALE, BeginRefusal.WAITING):
            return Disposition.ELSEWHERE
        ender, job_id, owner = self._services.ender, self._claim.job_id, self._claim.owner
        if refusal is BeginRefusal.CANCELLING:
            return disposition(await ender.end(job_id, owner, await ender.cancellation(job_id)))
        late = DeadlinePassed("The job's time-out passed before it could run.")
        return disposition(await ender.end(job_id, owner, late))

    async def _execute(
        self, made: NextAttempt, begun: Execution, given: AttemptInput, permit: Permit
    ) -> NextAttempt | Outcome:
        log.debug("attempt.started", attempt=begun.attempt, epoch=begun.epoch, provider=permit.provider)
        execution = self._services.kinds[self._plan.job.kind].start(begun, given, self._services.execution_services)
        ending = await self._switch.run(execution)
        if isinstance(ending, AttemptFailed):
            self._selector.failed(self._claim.job_id, permit, ending)
            outcome = await self._after_failure(made.progress, given, execution, ending)
            if outcome is not None:
                return outcome
            ending = execution.failed(ending)
        elif ending is not None:
            self._selector.succeeded(self._claim.job_id, permit)
        return await self._finish(execution, ending, permit.provider)

    async def _after_failure(
        self,
        progress: Progress,
        given: AttemptInput,
        execution: RunningExecution,
        error: AttemptFailed,
    ) -> NextAttempt | float | None:
        """Return the next attempt after a failed one, or the wait until it; None if the job ends with the failure."""
        plan, begun = self._plan, execution.execution
        log.info("attempt.failed", code=error.code, shown=execution.shown, epoch=begun.epoch)
        partial, seen = PartialAnswer(), execution.last
        if execution.shown:
            partial, seen = await self._services.read_partial(self._claim.job_id)
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
        owner = f"{self._claim.owner}.{begun.epoch}"
        return NextAttempt(again.progress, owner, begun.epoch, partial, seen, error, begun)

    async def _finish(self, execution: RunningExecution, ending: Ending | None, provider: str) -> Outcome:
        plan = self._plan
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
            attempt, usage = execution.execution.attempt, ending.data.get("usage")
            return EndedJob.completed(plan.job, attempt, usage, provider, times, has_children=answer.has_children)
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
