"""Complete a job that has its terminal event: write the dead letter if it failed, then remove the queue entry.

Each step is idempotent by the job's id. A worker that takes an ended job runs the steps again, so that a worker killed
between two steps leaves nothing undone. If a lost job was created again under its Idempotency-Key meanwhile, it stays
in the queue.
Not here: the terminal event (ending.py).
"""

import structlog

from shared.model.jobs import Job
from shared.store.dead_letters import DeadLetters
from shared.store.jobs import Store
from shared.store.queue import Queue
from shared.telemetry.metrics import Metrics

log = structlog.get_logger()

_LATE_CHECK_S = 5.0


class CompletionSteps:
    """Runs the completion steps of ended jobs."""

    def __init__(self, queue: Queue, dead_letters: DeadLetters, store: Store, metrics: Metrics | None = None) -> None:
        self._store = store
        self._queue = queue
        self._dead_letters = dead_letters
        self._metrics = metrics or Metrics()

    async def run(self, job_id: str, lane: str, *, failed: bool = True) -> None:
        """Run the completion steps of an ended job.

        `failed` is true if the job failed, or if the caller does not know; then its record decides.
        """
        if failed:
            await self._add_dead_letter(job_id)
        await self._queue.done(job_id, lane)
        if failed:
            await self._put_back_if_made_again(job_id)

    async def _put_back_if_made_again(self, job_id: str) -> None:
        """Restore a job to the queue if its record was written late, or anew.

        A process that writes a record reads the queue afterwards. Here the record is read after the queue was written,
        so that at least one of the two sees the other.
        """
        (job,) = await self._store.load_many([job_id])
        if isinstance(job, Job) and not job.ended:
            await self._queue.restore(job.place, _LATE_CHECK_S)

    async def _add_dead_letter(self, job_id: str) -> None:
        letter = await self._dead_letters.add(job_id)
        if letter is None:
            return
        self._metrics.dead_letters.of(letter.code).add()
        log.warning(
            "job.dead_letter",
            job=job_id,
            code=letter.code,
            tenant=letter.tenant,
            lane=letter.lane,
            attempts=letter.attempts,
        )
