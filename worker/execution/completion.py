"""Complete a job that has its terminal event, whichever process ended it: run a list of named steps.

A job's queue entry is the durable mark of an open completion, so its removal is the last step. A worker that finds the
entry of an ended job runs the steps again, so that a process killed between two steps leaves nothing undone.
Not here: the terminal event (ending.py), the work of each step (steps.py), the claims (shared/store/completions.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from shared.model.ended_job import EndedJob
from shared.model.jobs import Job
from shared.store.client import REDIS_DOWN
from shared.store.completions import Claimed, ClaimedElsewhere, Completions, NotEnded
from shared.store.jobs import JobRecords
from shared.store.queue import JOB_CHECK_S, Queue

log = structlog.get_logger()

_LATE_CHECK_S = 5.0


class CompletionStep(Protocol):
    """One step after a job's end. Its name is unique and never changes: records of jobs hold it."""

    @property
    def name(self) -> str:
        """Return the step's name; it has no spaces."""

    @property
    def repeatable(self) -> bool:
        """Return whether the step may run again for the same job.

        Otherwise its end is recorded with the job, at the cost of a claim for each job and a call for each step. Only a
        crash between the step's effect and that record repeats it.
        """

    async def run(self, job: EndedJob) -> None:
        """Carry out the step. If it raises, it runs again later.

        One of `REDIS_DOWN` means that Redis is unavailable: the step runs again as soon as Redis answers.
        """


class CompletionSteps:
    """Runs the completion steps of ended jobs in this process."""

    def __init__(
        self,
        steps: Sequence[CompletionStep],
        completions: Completions,
        queue: Queue,
        store: JobRecords,
    ) -> None:
        """Create the runner; the last step removes the queue entry, and runs once all others are done.

        The steps of one job may take half of a claim's lease together.

        Raises:
            ValueError: a name is used twice, or has spaces.
        """
        names = [step.name for step in steps]
        if len(set(names)) < len(names) or any(name.split() != [name] for name in names):
            raise ValueError(f"The names of the completion steps must differ and have no spaces: {names}.")
        *self._steps, self._last = steps
        self._repeatable = all(step.repeatable for step in steps)
        self._completions = completions
        self._queue = queue
        self._store = store
        self._limit_s = completions.lease_s / 2
        self._running: set[str] = set()

    async def run(self, job_id: str, lane: str, ended: EndedJob | None = None) -> None:
        """Run the steps of a job that has ended or has no record; its queue entry is in `lane`.

        `ended` is the job if the caller has just ended it. Steps that may repeat then need no claim. Raises one of
        `REDIS_DOWN`; then the same call may be repeated.
        """
        if job_id in self._running:
            return
        self._running.add(job_id)
        try:
            await self._complete(job_id, lane, ended)
        finally:
            self._running.discard(job_id)

    async def _complete(self, job_id: str, lane: str, ended: EndedJob | None) -> None:
        if ended is not None and self._repeatable:
            await self._run_steps(ended, frozenset())
            return
        match await self._completions.claim(job_id):
            case NotEnded() if ended is not None:
                # Its owner has deleted it since it ended. The record that the caller has is as good.
                await self._run_steps(ended, frozenset())
            case NotEnded():
                await self._remove_entry(job_id, lane)
            case ClaimedElsewhere(left_s):
                await self._queue.leave_lane(job_id, lane, left_s)
            case Claimed(job, done):
                await self._run_steps(replace(job, lane=lane), done)

    async def _run_steps(self, job: EndedJob, done: frozenset[str]) -> None:
        open_steps = [step for step in self._steps if step.name not in done]
        limit = asyncio.timeout(self._limit_s)
        try:
            async with limit:
                finished = [await self._run_step(step, job) for step in open_steps]
                if all(finished):
                    await self._last.run(job)
                    return
        except TimeoutError:
            if not limit.expired():
                raise
            log.error("completion.too_slow", job=job.id, limit_s=self._limit_s)
        await self._queue.leave_lane(job.id, job.lane, JOB_CHECK_S)

    async def _run_step(self, step: CompletionStep, job: EndedJob) -> bool:
        """Run one step; return whether it is done. A defect of one step must not hold back the others."""
        try:
            await step.run(job)
        except REDIS_DOWN:
            raise
        except Exception:  # the top of a step: it runs again, as the queue entry stays
            log.exception("completion.step_failed", step=step.name, job=job.id)
            return False
        return step.repeatable or await self._completions.record(job.id, step.name)

    async def _remove_entry(self, job_id: str, lane: str) -> None:
        """Remove the queue entry of a job without a record; restore it if a record was written late, or anew.

        A process that writes a record reads the queue afterwards. Here the record is read after the queue was written,
        so that at least one of the two sees the other.
        """
        await self._queue.done(job_id, lane)
        (job,) = await self._store.load_many([job_id])
        if isinstance(job, Job) and not job.ended:
            await self._queue.restore(job.place, _LATE_CHECK_S)
