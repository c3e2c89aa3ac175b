"""What is left to do once a job has its terminal event: the dead letter, where it failed; the queue entry goes last.

Each step is idempotent by the job's id, and whoever takes a job that has ended runs them again: a worker that is killed
between two of them leaves nothing undone. A job that was lost, and is made again under its Idempotency-Key meanwhile,
stays in the queue. Above: attempts, lane_worker, reaper, recovery. Below: dead_letters, queue, store.
Not here: how a job ends.
"""

import structlog

from shared.model.jobs import Job
from shared.store.dead_letters import DeadLetters
from shared.store.jobs import Store
from shared.store.queue import Queue
from shared.telemetry.metrics import Metrics

log = structlog.get_logger()

_LATE_LOOK_S = 5.0


class Epilogue:
    """The epilogues of one process."""

    def __init__(self, queue: Queue, dead_letters: DeadLetters, store: Store, metrics: Metrics | None = None) -> None:
        self._store = store
        self._queue = queue
        self._dead_letters = dead_letters
        self._metrics = metrics or Metrics()

    async def run(self, job_id: str, lane: str, *, failed: bool = True) -> None:
        """See a job off that has ended. `failed`: it has, or its caller does not know; its record does."""
        if failed:
            await self._bury(job_id)
        await self._queue.done(job_id, lane)
        if failed:
            await self._put_back_if_made_again(job_id)

    async def _put_back_if_made_again(self, job_id: str) -> None:
        """Put a job back whose record came late, or anew.

        Whoever writes a record looks at the queue afterwards, and here the record is looked at: one sees the other.
        """
        (job,) = await self._store.load_many([job_id])
        if isinstance(job, Job) and not job.ended:
            await self._queue.restore(job.place, _LATE_LOOK_S)

    async def _bury(self, job_id: str) -> None:
        buried = await self._dead_letters.bury(job_id)
        if buried is None:
            return
        self._metrics.dead_letters.of(buried.code).add()
        log.warning(
            "job.dead_letter",
            job=job_id,
            code=buried.code,
            tenant=buried.tenant,
            lane=buried.lane,
            attempts=buried.attempts,
        )
