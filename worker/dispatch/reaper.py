"""End jobs that no worker ends: past their deadline, abandoned, or cancelled without an answer; restore lost entries.

Every worker runs one; a job that is due for a check is hidden from the others for a while. It reads `tailrace:active`,
never arq's keys, and needs no reader and no restart.
Not here: restoring a job to the queue (reconciler.py), and its terminal event (worker/execution/job_end.py). The
functions that end a job and serve its lane are passed in.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from shared.model.bounds import CHECKED_JOBS
from shared.model.errors import BrokenJob, Cancelled, DeadlinePassed, TailraceError
from shared.model.jobs import VIEWER_LEASE_S, Job, Place
from shared.model.lifecycle import State
from shared.process.clock import Clock
from shared.store.client import REDIS_DOWN, REDIS_FAULTS, Outage
from shared.store.jobs import JobRecords
from shared.store.queue import JOB_CHECK_S, Queue
from shared.store.waiting_jobs import WaitingJobs
from shared.store.wire.answers import CancelAnswer
from worker.dispatch.reconciler import put_back
from worker.execution.completion import CompletionSteps
from worker.execution.ending import saved_tokens
from worker.execution.reported import ReportedJobs
from worker.model.token_estimate import SavedTokenEstimate

log = structlog.get_logger()

_SWEEP_S = 0.5
_HOLD_S = 5.0
_CHECK_LEAST_S = 0.05
# The time that a worker gets to end its cancelled job, and a running one that has passed its deadline.
_CANCEL_GRACE_MS = 2_000
_DEADLINE_GRACE_MS = 2_000

EndJob = Callable[[str, TailraceError], Awaitable[bool]]


class _Times(NamedTuple):
    """The time of the jobs' server, and the end of this process's hold of the jobs by the queue's server."""

    jobs_ms: int
    held_until_ms: int


class Reaper:
    """The reaper of one process."""

    def __init__(
        self,
        store: JobRecords,
        queue: Queue,
        waiting: WaitingJobs,
        completion_steps: CompletionSteps,
        clock: Clock,
        end: EndJob,
        serve: Callable[[str], None],
        *,
        lanes: tuple[str, ...],
        lease_s: float,
        wait_s: float = 0.0,
        up_s: float = VIEWER_LEASE_S,
        token_estimate: SavedTokenEstimate | None = None,
    ) -> None:
        """Create a reaper that trusts the times that it reads only after `wait_s`, if the server has just restarted.

        `up_s` is the time since that start; viewers renew their leases less often than workers.
        """
        self._store = store
        self._queue = queue
        self._waiting = waiting
        self._completion_steps = completion_steps
        self._clock = clock
        self._end = end
        self._serve = serve
        self._lanes = lanes
        self._lease_s = lease_s
        self._trust_at = clock.monotonic() + wait_s
        self._back_at = clock.monotonic() - up_s
        self._token_estimate = token_estimate or SavedTokenEstimate()
        self._reported = ReportedJobs()
        self._sweep_now = asyncio.Event()

    async def run(self) -> None:
        """Sweep until cancelled."""
        outage = Outage("reaper.redis_lost", "reaper.redis_back")
        full = False
        while True:
            if not full:
                await self._wait_for_sweep()
            try:
                full = await self.sweep()
                outage.is_over()
            except REDIS_FAULTS as error:
                # After an outage, workers and gateways first get a lease's time to renew theirs.
                full = False
                self._back_at = self._clock.monotonic()
                self._trust_at = self._back_at + self._lease_s
                outage.continues(error)

    def sweep_soon(self) -> None:
        """Check the jobs that are due now, because one has just ended without a worker."""
        self._sweep_now.set()

    async def _wait_for_sweep(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SWEEP_S):
                await self._sweep_now.wait()
        self._sweep_now.clear()

    async def sweep(self) -> bool:
        """Check the jobs that are due, once; return True if there may be more."""
        untrusted_s = self._trust_at - self._clock.monotonic()
        untrusted = untrusted_s > 0
        # Jobs that are not checked yet are hidden only until the reaper trusts the times.
        hold_s = min(_HOLD_S, untrusted_s) if untrusted else _HOLD_S
        queue_ms, job_ids = await self._queue.due_for_check(hold_s=hold_s, limit=CHECKED_JOBS)
        if not job_ids:
            return False
        # Each server's times are compared with its own clock only.
        times = _Times(jobs_ms=await self._store.time_ms(), held_until_ms=queue_ms + int(_HOLD_S * 1000))
        for job_id, job in zip(job_ids, await self._store.load_many(job_ids), strict=True):
            try:
                await self._check_once(job_id, job, times, untrusted=untrusted)
            except REDIS_DOWN:
                raise
            except Exception:  # the top of one job's check: a job that can't be checked must not delay the others
                if self._reported.is_new(job_id):
                    log.exception("reaper.check_failed", job=job_id)
        return len(job_ids) == CHECKED_JOBS

    async def _check_once(self, job_id: str, job: Job | BrokenJob | None, times: _Times, *, untrusted: bool) -> None:
        if job is None or (isinstance(job, Job) and job.ended):
            await self._forget(job_id, job)
        elif untrusted:
            return
        elif isinstance(job, Job):
            await self._check(job, times)
        else:
            await self._check_broken(job_id, job, times)

    async def _forget(self, job_id: str, job: Job | None) -> None:
        for lane in (job.lane,) if job else self._lanes:
            await self._completion_steps.run(job_id, lane)

    async def _check(self, job: Job, times: _Times) -> None:
        self._serve(job.lane)
        now_ms = times.jobs_ms
        if job.status is State.CANCELLING:
            await self._check_cancelling(job, now_ms)
        elif now_ms >= job.deadline_ms + (_DEADLINE_GRACE_MS if job.status is State.RUNNING else 0):
            await self._end_now(job.id, job.lane, DeadlinePassed("The job's time-out passed."))
        elif self._abandoned_in_s(job, now_ms) > 0 or not await self._abandon(job):
            grace_ms = _DEADLINE_GRACE_MS if job.status is State.RUNNING else 0
            over_in_s = (job.deadline_ms + grace_ms - now_ms) / 1000
            in_s = min(max(min(over_in_s, self._abandoned_in_s(job, now_ms)), _CHECK_LEAST_S), JOB_CHECK_S)
            if job.status is State.WAITING:
                await self._waiting.advance(job, in_s, held_until_ms=times.held_until_ms)
            else:
                await self._put_back(job.place, in_s, times)

    def _abandoned_in_s(self, job: Job, now_ms: int) -> float:
        """Return the seconds until the job is abandoned for lack of viewers, as far as is known now."""
        if not job.abandonable:
            return math.inf
        abandoned_in_s, up_s = (job.abandon_ms - now_ms) / 1000, self._clock.monotonic() - self._back_at
        # Viewers from before the server's outage first get a lease's time to renew theirs.
        seen_before = job.created_ms < now_ms - up_s * 1000
        return max(abandoned_in_s, VIEWER_LEASE_S - up_s) if seen_before else abandoned_in_s

    async def _abandon(self, job: Job) -> bool:
        """Abandon a job without readers; return False if a reader has arrived meanwhile."""
        # The saved tokens of a running job are recorded by its worker, which knows the answer so far.
        begun = job.status not in (State.WAITING, State.QUEUED)
        saved = 0 if begun else await saved_tokens(self._store, job.id, 0, self._token_estimate)
        answer = await self._store.abandon(job.id, saved)
        if answer is CancelAnswer.WATCHED:
            return False
        log.debug("reaper.abandoned", job=job.id)
        if answer is CancelAnswer.CANCELLING:
            await self._queue.schedule_check([job.id], _CANCEL_GRACE_MS / 1000)
        else:
            await self._completion_steps.run(job.id, job.lane)
        return True

    async def _check_broken(self, job_id: str, error: BrokenJob, times: _Times) -> None:
        """Put back or end a job that this version can't read.

        A newer version may be able to run it; a worker that takes it and can't read it ends it. Its deadline still
        applies.
        """
        if self._reported.is_new(job_id):
            log.warning("reaper.broken_job", job=job_id, reason=str(error))
        remains = await self._store.remains(job_id)
        if remains is None:
            await self._forget(job_id, None)
        elif remains.deadline_ms is not None and times.jobs_ms >= remains.deadline_ms + _DEADLINE_GRACE_MS:
            await self._end_now(job_id, remains.place.lane, DeadlinePassed("The job's time-out passed."))
        else:
            self._serve(remains.place.lane)
            await self._put_back(remains.place, JOB_CHECK_S, times)

    async def _put_back(self, place: Place, check_in_s: float, times: _Times) -> None:
        """Put a job back if the queue has lost it; if not, schedule its next check."""
        parts = (self._store, self._queue, self._completion_steps)
        await put_back(*parts, place, check_in_s, lease_s=self._lease_s, held_until_ms=times.held_until_ms)

    async def _check_cancelling(self, job: Job, now_ms: int) -> None:
        code, cancelled_at = await self._store.cancel_state(job.id)
        left_ms = cancelled_at + _CANCEL_GRACE_MS - now_ms if job.owner else 0
        if left_ms > 0:
            await self._queue.schedule_check([job.id], left_ms / 1000)
        else:
            await self._end_now(job.id, job.lane, Cancelled.because(code))

    async def _end_now(self, job_id: str, lane: str, error: TailraceError) -> None:
        log.debug("reaper.ends", job=job_id, code=error.code)
        if await self._end(job_id, error):
            await self._completion_steps.run(job_id, lane)
