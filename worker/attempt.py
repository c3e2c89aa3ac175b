"""One try of one job, from `begin` to the terminal event: the story a reader follows.

Above: lane_worker.py, which took the job and calls `Attempts.run`. Below: fallback (the provider's chunks), pump (their
way into the log), ending (the terminal event), store (the fence). Not here: which job is next, leases.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeGuard

import structlog
from anyio import CancelScope

from shared.bounds import USAGE_BYTES
from shared.errors import (
    AttemptFailed,
    AttemptsExhausted,
    BrokenJob,
    Cancelled,
    DeadlinePassed,
    InternalError,
    JobNotFound,
    OutputTooLarge,
    ProviderGarbage,
    TailraceError,
)
from shared.events import EventType, encode_data
from shared.jobs import CHAT, Job, Usage
from shared.metrics import Metrics
from shared.queue import Claim, Queue
from shared.replay import ReplayLog
from shared.store import BeginRefusal, Execution, Store
from worker.ending import (
    Ending,
    Tally,
    completed,
    ended_badly,
    estimate_tokens,
    finish,
    finish_from_log,
    persistently,
)
from worker.fallback import Chain, Routes
from worker.pace import Pace
from worker.providers.base import Chunk
from worker.pump import Pump

log = structlog.get_logger()

# Why an execution stops before its provider is through.
CANCELLED = "cancelled"
DRAIN = "drain"
BEHIND = "behind"
# The store's answers that mean that the job has its end.
ENDED = ("ok", "have", "ended", "missing")
# When the reaper looks at a job whose record came late.
_LATE_LOOK_S = 5.0

# No provider counts further, and every reader of JSON gets so far without losing a digit.
_MOST_TOKENS = 2**53


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may cost."""

    max_attempts: int
    max_log_bytes: int


class Attempt:
    """One execution, while it runs. `stop` may be called from anywhere in this process."""

    def __init__(
        self,
        execution: Execution,
        chain: Chain,
        request: Mapping[str, Any],
        pump: Pump,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.execution = execution
        self.stopped: str | None = None
        self._chain = chain
        self._request = request
        self._limits = limits
        self._pace = Pace(metrics, pump.clock, chain.name)
        self._outbox = pump.open(execution, self.stop)
        self._scope = CancelScope()
        self._tally = Tally()
        self._finish_reasons: dict[int, str] = {}
        self._usage: Mapping[str, Any] | None = None

    def stop(self, reason: str) -> None:
        """End this execution: `cancelled` and `drain` are ours to carry out, other reasons say it was taken away."""
        if self.stopped is None:
            self.stopped = reason
            self._scope.cancel()

    async def run(self) -> Ending | None:
        """Generate until the end; None if it was stopped. Everything put is in the log when this returns."""
        error: AttemptFailed | None = None
        with self._scope:
            try:
                if self.stopped is None:
                    await self._generate()
            except AttemptFailed as failure:
                error = failure
                self._pace.failed(failure)
            await self._outbox.flushed()
        if self.stopped is not None:
            return None
        if error is not None:
            usage = self._counted("partial") if self._tally.deltas else None
            return ended_badly(error, usage, self._tally)
        return completed(self._reasons(), self._counted("estimated"), self._tally)

    async def finish(self, store: Store, ending: Ending) -> str:
        """Write the terminal event after all that was put; the store's answer, see `Store.finish`.

        What Redis forgot meanwhile is sent again first. Where that can't be done, `stopped` says why.
        """
        while True:
            answer = await finish(store, self.execution, ending, self._outbox.seq + 1)
            word, _, log_ends_at = answer.partition(" ")
            if word != BEHIND or not self._outbox.send_again(int(log_ends_at)):
                return answer
            await self._outbox.flushed()

    async def _generate(self) -> None:
        async with self._chain.stream(self._request, total_s=self.execution.left_ms / 1000) as chunks:
            async for chunk in chunks:
                await self._put(chunk)

    async def _put(self, chunk: Chunk) -> None:
        if chunk.deltas:
            self._pace.came(len(chunk.deltas))
        for delta in chunk.deltas:
            try:
                data = encode_data(delta)
            except ValueError as error:
                raise ProviderGarbage("The provider sent a number that JSON has no word for.") from error
            self._tally.add(data)
            await self._outbox.put(EventType.DELTA, data)
        if self._outbox.log_bytes > self._limits.max_log_bytes:
            raise OutputTooLarge(f"The job's log would pass {self._limits.max_log_bytes} bytes.")
        self._finish_reasons.update(chunk.finished)
        if chunk.usage is not None:
            self._usage = chunk.usage

    def _reasons(self) -> list[str | None]:
        return [self._finish_reasons.get(index) for index in range(max(self._finish_reasons, default=-1) + 1)]

    def _counted(self, otherwise: str) -> Usage:
        """The provider's count, or ours, which says so."""
        usage = self._usage or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if _is_count(prompt) and _is_count(completion):
            details = {name: value for name, value in usage.items() if name.endswith("_details") and _is_kept(value)}
            return Usage(prompt, completion, "provider", details)
        return Usage(estimate_tokens(self._request), self._tally.deltas, otherwise)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS


def _is_kept(value: object) -> bool:
    """Whether it is JSON, and not too large for a job's record."""
    try:
        return len(encode_data(value)) <= USAGE_BYTES
    except ValueError:
        return False


class Fate(Enum):
    """What becomes of a taken job in the queue."""

    OVER = "it has ended"
    BACK = "another worker may have it at once"
    LEFT = "another worker has it, or will"
    UNKNOWN = "it has no record"


def _fate(ended: bool) -> Fate:
    return Fate.OVER if ended else Fate.LEFT


class Attempts:
    """All executions of this process."""

    def __init__(
        self,
        store: Store,
        replay_log: ReplayLog,
        queue: Queue,
        pump: Pump,
        routes: Routes,
        limits: Limits,
        *,
        lease_s: float,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._store = store
        self._log = replay_log
        self._queue = queue
        self._pump = pump
        self._routes = routes
        self._limits = limits
        self._lease_s = lease_s
        self.running: dict[str, Attempt] = {}
        self._starting: dict[str, str | None] = {}
        self._draining = False

    async def run(self, claim: Claim) -> bool:
        """Run a job that was taken, to its end or until it is taken away.

        True if another worker may have it at once; else the queue has forgotten it, or somebody else runs it.
        """
        self._starting[claim.job_id] = None
        try:
            fate = await self._run(claim)
        except Exception:  # the top of the job's task: a defect must not leave the job without an end
            log.exception("attempt.crashed")
            defect = InternalError("Tailrace failed inside; its log has the cause.")
            fate = _fate(await self.end(claim.job_id, claim.owner, defect))
        finally:
            self._starting.pop(claim.job_id, None)
        if fate is Fate.OVER:
            await persistently(lambda: self._queue.done(claim.job_id, claim.lane))
        elif fate is Fate.UNKNOWN:
            await self._forget(claim)
        return fate is Fate.BACK

    def stop(self, job_id: str, reason: str) -> None:
        """Stop a job if it runs or is about to run here; see `Attempt.stop`."""
        if (attempt := self.running.get(job_id)) is not None:
            attempt.stop(reason)
        elif job_id in self._starting:
            self._starting[job_id] = reason

    def drain(self) -> None:
        """Hand back what runs and what is about to."""
        self._draining = True
        for attempt in list(self.running.values()):
            attempt.stop(DRAIN)

    async def end(self, job_id: str, owner: str, error: TailraceError) -> bool:
        """End a job that is not being run, with the next epoch; True if it has ended now, by whomever."""
        execution = await persistently(lambda: self._store.take_over(job_id, owner))
        if isinstance(execution, str):
            return execution in ("ended", "missing")
        try:
            tokens = await self._prompt_tokens(job_id)
            answer = await finish_from_log(self._store, self._log, execution, error, tokens)
            if answer == CANCELLED:
                return await self._end_cancelled(execution)
        except JobNotFound:
            return True
        return answer in ENDED

    async def _forget(self, claim: Claim) -> None:
        """A job without a record leaves the queue; if its record comes late, it is put back."""
        await persistently(lambda: self._queue.done(claim.job_id, claim.lane))
        # Whoever writes the record looks at the queue afterwards, we look at the record: one of us sees the other.
        try:
            job = await persistently(lambda: self._store.load(claim.job_id))
        except JobNotFound:
            log.info("attempt.no_record")
            return
        if not job.ended:
            await persistently(lambda: self._queue.restore(job.place, _LATE_LOOK_S))

    async def _run(self, claim: Claim) -> Fate:
        job_id = claim.job_id
        if self._draining:
            return Fate.BACK
        try:
            job, request = await persistently(lambda: self._store.load_with_request(job_id))
            if job.kind != CHAT:
                raise BrokenJob(f"This version knows no jobs of kind {job.kind!r}.")
            chain = self._routes.chain(job.model)
        except JobNotFound:
            return Fate.UNKNOWN
        except TailraceError as error:
            return _fate(await self.end(job_id, claim.owner, error))
        # The record's epoch counts only if it was read while the job was ours.
        if not await self._holds(claim):
            return Fate.LEFT
        begun = await persistently(lambda: self._begin(job, claim, chain))
        if isinstance(begun, str):
            return await self._refused(job, claim, begun)
        if not job.started_ms:
            # Both times are the server's: what is left until the deadline says when it began.
            wait_ms = job.deadline_ms - begun.left_ms - job.created_ms
            self._metrics.wait.of(job.lane).observe(wait_ms / 1000)
        return await self._execute(begun, chain, request)

    async def _holds(self, claim: Claim) -> bool:
        if asyncio.get_running_loop().time() < claim.good_until:
            return True
        (answer,) = await persistently(lambda: self._queue.renew([claim], self._lease_s))
        return answer == "ok"

    async def _begin(self, job: Job, claim: Claim, chain: Chain) -> Execution | BeginRefusal:
        return await self._store.begin(
            job.id,
            claim.owner,
            epoch=job.last.epoch,
            model=job.model,
            provider=chain.name,
            max_attempts=self._limits.max_attempts,
        )

    async def _refused(self, job: Job, claim: Claim, refusal: BeginRefusal) -> Fate:
        if refusal in ENDED:
            return Fate.OVER
        if refusal == "stale":
            return Fate.LEFT
        error: TailraceError
        if refusal == "cancelling":
            error = await self._cancelled(job.id)
        elif refusal == "expired":
            error = DeadlinePassed("The job's time was over before it could run.")
        else:
            error = AttemptsExhausted(f"{job.attempts} attempts died without an end of their own.")
        return _fate(await self.end(job.id, claim.owner, error))

    async def _execute(self, execution: Execution, chain: Chain, request: Mapping[str, Any]) -> Fate:
        log.info("attempt.started", attempt=execution.attempt, epoch=execution.epoch, provider=chain.name)
        attempt = Attempt(execution, chain, request, self._pump, self._limits, self._metrics)
        self.running[execution.job_id] = attempt
        if self._draining:
            attempt.stop(DRAIN)
        elif (order := self._starting.pop(execution.job_id, None)) is not None:
            attempt.stop(order)
        try:
            ending = await attempt.run()
        finally:
            del self.running[execution.job_id]
        if ending is None:
            return await self._after_stop(attempt)
        answer = await attempt.finish(self._store, ending)
        if attempt.stopped is not None:
            return await self._after_stop(attempt)
        log.info("attempt.finished", status=ending.state.value, answer=answer)
        if answer == CANCELLED:
            return _fate(await self._end_cancelled(execution))
        return _fate(answer in ENDED)

    async def _after_stop(self, attempt: Attempt) -> Fate:
        log.info("attempt.stopped", reason=attempt.stopped)
        if attempt.stopped == CANCELLED:
            return _fate(await self._end_cancelled(attempt.execution))
        if attempt.stopped in (DRAIN, BEHIND):
            return await self._hand_back(attempt.execution, attempt.stopped)
        return _fate(attempt.stopped in ENDED)

    async def _end_cancelled(self, execution: Execution) -> bool:
        error = await self._cancelled(execution.job_id)
        tokens = await self._prompt_tokens(execution.job_id)
        return await finish_from_log(self._store, self._log, execution, error, tokens) in ENDED

    async def _hand_back(self, execution: Execution, reason: str) -> Fate:
        await persistently(lambda: self._store.hand_back(execution, reason))
        return Fate.BACK

    async def _cancelled(self, job_id: str) -> Cancelled:
        code, _ = await persistently(lambda: self._store.cancel_state(job_id))
        return Cancelled.because(code)

    async def _prompt_tokens(self, job_id: str) -> int:
        try:
            return estimate_tokens(await persistently(lambda: self._store.request(job_id)))
        except BrokenJob:
            return 0
