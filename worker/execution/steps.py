"""The completion steps of every job: its dead letter, if it failed, and the removal of its queue entry.

Not here: their order and the repetition after a crash (completion.py).
"""

from typing import Final

import structlog

from shared.model.ended_job import EndedJob
from shared.model.lifecycle import State
from shared.store.dead_letters import DeadLetters
from shared.store.queue import Queue
from shared.telemetry.metrics import Metrics

log = structlog.get_logger()


class AddDeadLetter:
    """Makes a failed job a dead letter, unless its request was at fault."""

    name: Final = "dead_letter"
    repeatable: Final = True

    def __init__(self, dead_letters: DeadLetters, metrics: Metrics) -> None:
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def run(self, job: EndedJob) -> None:
        """Add the dead letter; count and log it if it is new."""
        if job.status is not State.FAILED:
            return
        letter = await self._dead_letters.add(job.id)
        if letter is None:
            return
        self._metrics.dead_letters.of(letter.code).add()
        log.warning(
            "job.dead_letter",
            job=job.id,
            code=letter.code,
            tenant=letter.tenant,
            lane=letter.lane,
            attempts=letter.attempts,
        )


class RemoveQueueEntry:
    """Removes the job from the queue and settles its tenant's reservation, in one atomic step."""

    name: Final = "queue_entry"
    repeatable: Final = True

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def run(self, job: EndedJob) -> None:
        """Remove the entry."""
        await self._queue.done(job.id, job.lane)
