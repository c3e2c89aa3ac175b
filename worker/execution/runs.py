"""What becomes of each job that this process has taken: its attempts, one after the other, until its end.

Above: lane_worker.py, which took the job and calls `Attempts.run`. Below: attempt (one try while it runs), retry and
continuation (what follows a failure, as values), ending (the terminal event), store (the fence). Not here: which job is
next, leases.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from enum import Enum

import structlog

from shared.model.errors import (
    AttemptFailed,
    BrokenJob,
    Cancelled,
    DeadlinePassed,
    Drained,
    InternalError,
    Interrupted,
    JobNotFound,
    LogBehind,
    PoisonJob,
    TailraceError,
    WorkerLost,
)
from shared.model.jobs import Job, Progress
from shared.model.kinds import EMBEDDINGS, KINDS, streams_text
from shared.model.lifecycle import State
from shared.store.answers import BeginRefusal, RenewAnswer, StopReason, Written, has_ended
from shared.store.client import REDIS_FAULTS
from shared.store.jobs import ROLLED_BACK, Execution, Store, Succession
from shared.store.queue import Claim, Queue
from shared.store.replay_log import ReplayLog
from shared.store.results import Results
from shared.store.retrying import retry_until_redis_answers
from shared.telemetry.metrics import Metrics
from worker.execution.attempt import Attempt, Question
from worker.execution.completion import Epilogue
from worker.execution.embedding import Embedding
from worker.execution.ending import Ending, estimate_tokens, finish_from_log, read_heard
from worker.execution.job_run import (
    Next,
    Task,
    able_links,
    may_follow,
    orders_of,
    question_of,
    refuses_the_rest,
    why_left,
)
from worker.execution.pump import Pump
from worker.execution.reported import ReportedJobs
from worker.model.digest import Heard
from worker.model.retry import Budget, Failure, after_loss, decide
from worker.model.token_estimate import Savings
from worker.upstream.breakers import CallOrigin
from worker.upstream.chain import Routes
from worker.upstream.selector import Gate, Pass

log = structlog.get_logger()

# A job for which no provider has a place gives its slot to another one for so long.
_NO_PLACE_S = 0.5
# A job that can be neither run nor ended here is given to any worker after so long.
_NOT_ENDED_S = 30.0
# Why an execution of ours ended that has cost its job nothing.
_INTERRUPTIONS = {
    StopReason.DRAIN: Drained("The worker was stopped and handed the job on."),
    StopReason.BEHIND: LogBehind("Redis lost a part of the answer."),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may cost: workers that are lost over it, deltas that are generated again, bytes of its log and of
    its result."""

    max_crashes: int
    max_regenerated_tokens: int
    max_log_bytes: int
    max_result_bytes: int


class Fate(Enum):
    """What becomes of a taken job in the queue."""

    OVER = "it has ended"
    COMPLETED = "it has ended, and well"
    LEFT = "another worker has it, or will"
    UNKNOWN = "it has no record"


Outcome = Fate | float
"""A job's fate, or the seconds after which any worker may have it."""


def _fate(ended: bool, *, well: bool = False) -> Fate:
    if well:
        return Fate.COMPLETED
    return Fate.OVER if ended else Fate.LEFT


class Attempts:
    """All executions of this process."""

    def __init__(
        self,
        store: Store,
        replay_log: ReplayLog,
        results: Results,
        queue: Queue,
        epilogue: Epilogue,
        pump: Pump,
        routes: Routes,
        gate: Gate,
        limits: Limits,
        *,
        lease_s: float,
        metrics: Metrics | None = None,
        savings: Savings | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._savings = savings or Savings()
        self._store = store
        self._log = replay_log
        self._results = results
        self._queue = queue
        self._epilogue = epilogue
        self._pump = pump
        self._routes = routes
        self._gate = gate
        self._limits = limits
        self._lease_s = lease_s
        self._reported = ReportedJobs()
        self.running: dict[str, Attempt | Embedding] = {}
        self._starting: dict[str, StopReason | None] = {}
        self._draining = False

    async def run(self, claim: Claim) -> float | None:
        """Run a job that was taken, to its end or until it is taken away.

        The seconds after which any worker may have it; None if the queue has forgotten it, or somebody else runs it.
        """
        self._starting[claim.job_id] = None
        try:
            outcome = await self._run(claim)
        except Exception:  # the top of the job's task: a defect must not leave the job without an end
            if self._reported.is_new(claim.job_id):
                log.exception("attempt.crashed")
            outcome = await self._end_after_defect(claim)
        finally:
            self._starting.pop(claim.job_id, None)
        if outcome is Fate.UNKNOWN:
            log.info("attempt.no_record")
        if outcome in (Fate.OVER, Fate.COMPLETED, Fate.UNKNOWN):
            failed = outcome is not Fate.COMPLETED
            await retry_until_redis_answers(lambda: self._epilogue.run(claim.job_id, claim.lane, failed=failed))
        return None if isinstance(outcome, Fate) else outcome

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stop a job if it runs or is about to run here; see `Attempt.stop`."""
        if (attempt := self.running.get(job_id)) is not None:
            attempt.stop(reason)
        elif job_id in self._starting:
            self._starting[job_id] = reason

    def drain(self) -> None:
        """Hand back what runs and what is about to."""
        self._draining = True
        for attempt in list(self.running.values()):
            attempt.stop(StopReason.DRAIN)

    async def end(self, job_id: str, owner: str, error: TailraceError, epoch: int | None = None) -> bool:
        """End a job that is not being run, with the next epoch; True if it has ended now, by whomever.

        With the `epoch` that was read, nothing is done where another one has begun since.
        """
        execution = await retry_until_redis_answers(lambda: self._store.take_over(job_id, owner, epoch))
        if isinstance(execution, BeginRefusal):
            return execution.job_has_ended
        try:
            tokens = await self._prompt_tokens(job_id)
            answer = await finish_from_log(self._store, self._log, execution, error, tokens, self._savings)
            if answer is StopReason.CANCELLED:
                return await self._end_cancelled(execution)
        except JobNotFound:
            return True
        return has_ended(answer)

    async def _end_after_defect(self, claim: Claim) -> Outcome:
        defect = InternalError("Internal error; see the server log.")
        try:
            return _fate(await self.end(claim.job_id, claim.owner, defect))
        except REDIS_FAULTS as error:
            # Redis refuses a step for this job alone. Another version may be able to carry it out.
            log.debug("attempt.not_ended", error=str(error))
            return _NOT_ENDED_S

    async def _run(self, claim: Claim) -> Outcome:
        job_id = claim.job_id
        if self._draining:
            return 0.0
        try:
            job, request = await retry_until_redis_answers(lambda: self._store.load_with_request(job_id))
            if job.kind not in KINDS:
                raise BrokenJob(f"This version does not support jobs of kind {job.kind!r}.")
            chain = self._routes.chain(job.model)
            task = Task(claim, job, request, chain, job.on_stream_failure or chain.on_stream_failure)
            # The record's epoch counts only if it was read while the job was ours.
            if not await self._holds(claim):
                return Fate.LEFT
            try:
                first = await self._first(task)
            except (PoisonJob, Interrupted) as error:
                # Whoever has begun it since runs it: then we were frozen in between.
                return _fate(await self.end(job_id, claim.owner, error, job.last.epoch))
            return await self._pursue(task, first)
        except JobNotFound:
            return Fate.UNKNOWN
        except BrokenJob as error:
            log.warning("attempt.not_startable", reason=str(error))
            return _fate(await self.end(job_id, claim.owner, error))
        except TailraceError as error:
            return _fate(await self.end(job_id, claim.owner, error))

    async def _holds(self, claim: Claim) -> bool:
        if asyncio.get_running_loop().time() < claim.good_until:
            return True
        (answer,) = await retry_until_redis_answers(lambda: self._queue.renew([claim], self._lease_s))
        return answer is RenewAnswer.HELD

    # From one attempt to the next.

    async def _first(self, task: Task) -> Next:
        """The attempt that is to be made of a job that has just been taken.

        Raises:
            PoisonJob: it is not to be run any more.
            Interrupted: the answer has begun, and is not to be gone on with.
        """
        job, owner = task.job, task.claim.owner
        if not job.last.epoch:
            return Next(job.progress, owner, 0, Heard())
        heard, seen = await retry_until_redis_answers(lambda: read_heard(self._log, job.id))
        progress, cause = job.progress, why_left(job)
        if isinstance(cause, WorkerLost):
            progress = after_loss(progress, job.embedded.done if job.embedded else heard.deltas)
            if progress.crashes >= self._limits.max_crashes:
                raise PoisonJob(f"The job lost {progress.crashes} workers in a row without progress.")
        if not may_follow(task, heard, progress):
            raise cause
        return Next(progress, owner, job.last.epoch, heard, seen, cause)

    async def _pursue(self, task: Task, upcoming: Next) -> Outcome:
        """One attempt after the other; the seconds until the next, where that is not at once."""
        while True:
            outcome = await self._try(task, upcoming)
            if not isinstance(outcome, Next):
                return outcome
            upcoming = outcome

    async def _try(self, task: Task, upcoming: Next) -> Next | Outcome:
        job_id = task.job.id
        way = await self._enter(task, upcoming)
        if way is None:
            return await self._wait_for_a_place(upcoming)
        try:
            question = question_of(task, upcoming, way)
            taken_back = 0 if question.heard else upcoming.heard.deltas
            progress = replace(upcoming.progress, link=way.link, wasted=upcoming.progress.wasted + taken_back)
            begun = await retry_until_redis_answers(lambda: self._begin(task, upcoming, question, way, progress))
            if not isinstance(begun, BeginRefusal):
                self._count(task.job, upcoming, begun, taken_back)
                return await self._execute(task, progress, begun, question, way)
        finally:
            await self._gate.leave(job_id, way)
        if begun is BeginRefusal.MOVED:
            # Somebody whose lease is over still writes: only what he wrote until we begin may be gone on from.
            heard, seen = await retry_until_redis_answers(lambda: read_heard(self._log, job_id))
            if not may_follow(task, heard, upcoming.progress):
                raise upcoming.cause or WorkerLost.because_of_silence()
            return replace(upcoming, heard=heard, seen=seen)
        return await self._refused(task, begun)

    async def _enter(self, task: Task, upcoming: Next) -> Pass | None:
        origin = CallOrigin(task.job.tenant, task.request)
        first, others = orders_of(task, upcoming)
        way = await self._gate.enter(task.job.id, task.chain.links, first, task.job.model, origin)
        if way is not None and way.closed and others:
            return await self._gate.enter(task.job.id, task.chain.links, others, task.job.model, origin)
        return way

    async def _wait_for_a_place(self, upcoming: Next) -> Outcome:
        former = upcoming.former
        if former is not None and upcoming.cause is not None:
            await self._leave(former, upcoming.cause, upcoming.progress)
        return _NO_PLACE_S

    async def _begin(
        self, task: Task, upcoming: Next, question: Question, way: Pass, progress: Progress
    ) -> Execution | BeginRefusal:
        after = None
        if upcoming.seen is not None:
            resumed_from = upcoming.seen if question.heard else ROLLED_BACK if upcoming.heard.deltas else None
            former = "" if upcoming.former is None else upcoming.former.owner
            after = Succession(upcoming.cause or WorkerLost.because_of_silence(), former, resumed_from, upcoming.seen)
        return await self._store.begin(
            task.job.id,
            upcoming.owner,
            epoch=upcoming.epoch,
            model=way.model,
            provider=way.provider,
            after=after,
            progress=progress,
        )

    def _count(self, job: Job, upcoming: Next, begun: Execution, taken_back: int) -> None:
        if not job.started_ms and upcoming.former is None:
            # Both times are the server's: what is left until the deadline says when it began.
            wait_ms = job.deadline_ms - begun.left_ms - job.created_ms
            self._metrics.wait.of(job.lane).observe(wait_ms / 1000)
        self._metrics.taken_back.of().add(taken_back)

    async def _refused(self, task: Task, refusal: BeginRefusal) -> Fate:
        if refusal.job_has_ended:
            return Fate.OVER
        if refusal is BeginRefusal.STALE:
            return Fate.LEFT
        error: TailraceError
        if refusal is BeginRefusal.CANCELLING:
            error = await self._cancelled(task.job.id)
        else:
            error = DeadlinePassed("The job's time was over before it could run.")
        return _fate(await self.end(task.job.id, task.claim.owner, error))

    async def _execute(
        self, task: Task, progress: Progress, execution: Execution, question: Question, way: Pass
    ) -> Next | Outcome:
        log.info("attempt.started", attempt=execution.attempt, epoch=execution.epoch, provider=way.provider)
        attempt = self._attempt(task, execution, question)
        self.running[execution.job_id] = attempt
        if self._draining:
            attempt.stop(StopReason.DRAIN)
        elif (order := self._starting.pop(execution.job_id, None)) is not None:
            attempt.stop(order)
        try:
            ending = await attempt.run()
        finally:
            # An order that comes from here on is for the next attempt.
            self._starting[execution.job_id] = None
            del self.running[execution.job_id]
        if isinstance(ending, AttemptFailed):
            self._gate.failed(execution.job_id, way, ending)
            outcome = await self._follow(task, progress, question, attempt, ending)
            if outcome is not None:
                return outcome
            ending = attempt.failed(ending)
        elif ending is not None:
            self._gate.succeeded(execution.job_id, way)
        return await self._finish(task, attempt, ending)

    def _attempt(self, task: Task, execution: Execution, question: Question) -> Attempt | Embedding:
        """One execution of a job of this kind."""
        if task.job.kind == EMBEDDINGS:
            return Embedding(
                execution,
                question,
                self._store,
                self._results,
                self._pump.clock,
                self._metrics,
                max_result_bytes=self._limits.max_result_bytes,
            )
        return Attempt(
            execution,
            question,
            self._pump,
            self._metrics,
            max_log_bytes=self._limits.max_log_bytes,
        )

    async def _follow(
        self,
        task: Task,
        progress: Progress,
        question: Question,
        attempt: Attempt | Embedding,
        error: AttemptFailed,
    ) -> Next | float | None:
        """What is made of a failed attempt; None is the job's end."""
        execution = attempt.execution
        log.info("attempt.failed", code=error.code, shown=attempt.shown, epoch=execution.epoch)
        heard, seen = Heard(), attempt.last
        if attempt.shown:
            heard, seen = await retry_until_redis_answers(lambda: read_heard(self._log, execution.job_id))
        of_the_rest = refuses_the_rest(question, attempt.shown, error)
        if of_the_rest:
            progress = replace(progress, unable=(*progress.unable, progress.link))
        able = able_links(task, heard, progress)
        failure = Failure(error, len(task.chain.links), able, heard.deltas, attempt.left_s, of_the_rest)
        budget = Budget(task.chain.max_attempts, self._limits.max_regenerated_tokens)
        again = decide(failure, progress, budget, random.random())
        if again is None or not may_follow(task, heard, again.progress):
            return None
        if again.after_s:
            await self._leave(execution, error, again.progress)
            return again.after_s
        owner = f"{task.claim.owner}.{execution.epoch}"
        return Next(again.progress, owner, execution.epoch, heard, seen, error, execution)

    async def _finish(self, task: Task, attempt: Attempt | Embedding, ending: Ending | None) -> Fate | float:
        answer = None if ending is None else await attempt.finish(self._store, ending)
        if ending is None or answer is None or attempt.stopped is not None:
            return await self._after_stop(attempt)
        ended = has_ended(answer)
        log.info("attempt.finished", status=ending.state.value, ended=ended)
        if streams_text(task.job.kind) and ending.state is State.COMPLETED and ended:
            self._savings.answered(task.request, ending.data["usage"]["completion_tokens"])
        if answer is StopReason.CANCELLED:
            return _fate(await self._end_cancelled(attempt.execution))
        return _fate(ended, well=isinstance(answer, Written) and ending.state is State.COMPLETED)

    async def _after_stop(self, attempt: Attempt | Embedding) -> Fate | float:
        log.info("attempt.stopped", reason=attempt.stopped)
        if attempt.stopped is StopReason.CANCELLED:
            return _fate(await self._end_cancelled(attempt.execution))
        if attempt.stopped in _INTERRUPTIONS:
            await attempt.flushed()
            cause = _INTERRUPTIONS[attempt.stopped]
            await retry_until_redis_answers(lambda: self._store.leave(attempt.execution, cause, costs=False))
            return 0.0
        return _fate(attempt.stopped is not None and attempt.stopped.job_has_ended)

    async def _leave(self, execution: Execution, cause: AttemptFailed, progress: Progress) -> None:
        """The attempt has failed, and the next is to be made later."""
        await retry_until_redis_answers(lambda: self._store.leave(execution, cause, costs=True, progress=progress))

    async def _end_cancelled(self, execution: Execution) -> bool:
        error = await self._cancelled(execution.job_id)
        tokens = await self._prompt_tokens(execution.job_id)
        return has_ended(await finish_from_log(self._store, self._log, execution, error, tokens, self._savings))

    async def _cancelled(self, job_id: str) -> Cancelled:
        code, _ = await retry_until_redis_answers(lambda: self._store.cancel_state(job_id))
        return Cancelled.because(code)

    async def _prompt_tokens(self, job_id: str) -> int:
        try:
            return estimate_tokens(await retry_until_redis_answers(lambda: self._store.request(job_id)))
        except BrokenJob:
            return 0
