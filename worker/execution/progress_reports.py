"""The progress reports of one execution of a function: at most four a second, each with an event and in the record.

A report that comes too early replaces the one that waits. The last one is always written, before the execution ends.
Not here: the percent (shared/model/progress_count.py), and the job as its function sees it (job_context.py).
"""

import asyncio

import structlog

from shared.model.events import EventType, encode_data
from shared.model.progress_count import REPORT_EVERY_S, ProgressReport, ReportSequence
from shared.process.clock import Clock
from shared.store.client import REDIS_FAULTS
from shared.store.executions import Execution
from shared.store.jobs import JobRecords
from shared.store.refusals import name_of
from worker.execution.pump import Outbox

log = structlog.get_logger()


class ProgressReports:
    """Write the reports of one execution."""

    def __init__(self, execution: Execution, outbox: Outbox, store: JobRecords, clock: Clock) -> None:
        self._execution = execution
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._sequence = ReportSequence(execution.epoch, execution.attempt)
        self._waiting: ProgressReport | None = None
        self._next_at = clock.monotonic()
        self._timer: asyncio.Task[None] | None = None

    async def report(self, done: float, total: float | None, message: str) -> None:
        """Write a report now, or at the end of the pause after the last one unless a later report replaces it.

        Raises:
            ValueError: a value can't be used; the sentence names it.
        """
        self._waiting = self._sequence.next(done, total, message)
        pause_s = self._next_at - self._clock.monotonic()
        if pause_s <= 0:
            await self._write()
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._write_after(pause_s))

    async def close(self) -> None:
        """Write the report that waits."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])
        await self._write()

    async def _write_after(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._write()

    async def _write(self) -> None:
        report, self._waiting = self._waiting, None
        if report is None:
            return
        self._next_at = self._clock.monotonic() + REPORT_EVERY_S
        await self._outbox.put(EventType.PROGRESS, encode_data(report.as_event()))
        try:
            await self._store.write_report(self._execution, report)
        except REDIS_FAULTS as error:
            # The event is in the outbox; the record gets the next report.
            log.debug("progress.not_recorded", job=self._execution.job_id, error=name_of(error))
