"""The completion steps of every job: its dead letter, its webhook, its line in the log, the end of its queue entry.

Not here: their order and the repetition after a crash (completion.py).
"""

from typing import Final, Protocol

import structlog

from shared.model.ended_job import EndedJob
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.model.parents import ParentEnd, parent_end_of
from shared.model.webhooks.delivery import Delivery, delivery_of
from shared.store.dead_letters import DeadLetters
from shared.store.queue import Queue
from worker.execution.reported import ReportedJobs

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


class DeliveryList(Protocol):
    """The open deliveries of webhooks."""

    async def add(self, delivery: Delivery, due_ms: int) -> None:
        """Store a delivery whose first attempt is due then, unless it is known."""


class AddWebhookDelivery:
    """Stores the delivery of a job's webhook, if it has one for this end. The attempts follow elsewhere."""

    name: Final = "webhook"
    repeatable: Final = True

    def __init__(self, deliveries: DeliveryList) -> None:
        self._deliveries = deliveries

    async def run(self, job: EndedJob) -> None:
        """Store the delivery."""
        delivery = delivery_of(job)
        if delivery is not None:
            await self._deliveries.add(delivery, job.times.ended_ms)


class WaitingChildren(Protocol):
    """The part of `WaitingJobs` that the step needs."""

    async def settle_children(self, parent_id: str, end: ParentEnd) -> None:
        """Settle the end of a job with all of its children."""


class SettleChildren:
    """Releases or ends the jobs that come after the job."""

    name: Final = "children"
    repeatable: Final = True

    def __init__(self, waiting: WaitingChildren) -> None:
        self._waiting = waiting

    async def run(self, job: EndedJob) -> None:
        """Settle the job's end with its children."""
        end = parent_end_of(job.status)
        if job.has_children and end is not None:
            await self._waiting.settle_children(job.id, end)


class LogEnd:
    """Logs the one line about a job that has all facts of its end.

    A process that dies after the line and before the next step has finished lets another process repeat it.
    """

    name: Final = "log_end"
    repeatable: Final = True

    def __init__(self) -> None:
        self._reported = ReportedJobs()

    async def run(self, job: EndedJob) -> None:
        """Log the line, unless this process has logged it."""
        if not self._reported.is_new(job.id):
            return
        usage, times = job.usage or {}, job.times
        log.info(
            "job.ended",
            request=job.request_id or None,
            job=job.id,
            tenant=job.tenant,
            lane=job.lane,
            kind=job.kind,
            model=job.model,
            provider=job.provider or None,
            status=job.status.value,
            code=job.error_code or None,
            attempts=job.attempts,
            input_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
            waited_s=times.waited_s,
            first_token_s=times.first_token_s,
            ran_s=times.ran_s,
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
