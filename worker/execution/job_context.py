"""The job as its function sees it: progress, events of its own, and whether it is being stopped.

Not here: the members' contract (shared/model/own_kinds.py), and the run of the function (own_function.py).
"""

from typing import Any

from shared.model.errors import OutputTooLarge, TenantFull
from shared.model.events import encode_data
from shared.model.own_kinds import check_event_name
from shared.store.executions import Execution
from worker.execution.progress_reports import ProgressReports
from worker.execution.pump import Outbox


class RunningJob:
    """One attempt of a job. It is closed when its function has returned, or is not waited for any more."""

    def __init__(self, execution: Execution, outbox: Outbox, reports: ProgressReports, max_log_bytes: int) -> None:
        self._reports = reports
        self._execution = execution
        self._outbox = outbox
        self._max_log_bytes = max_log_bytes
        self._closed = False
        self.cancelled = False

    @property
    def id(self) -> str:
        """Return the job's id."""
        return self._execution.job_id

    @property
    def attempt(self) -> int:
        """Return the number of this attempt."""
        return self._execution.attempt

    async def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress; see `JobContext.progress`."""
        self._check_open()
        await self._reports.report(done, total, message)
        self._check_bounds()

    async def emit(self, name: str, data: Any) -> None:
        """Write an event of the function's own; see `JobContext.emit`."""
        check_event_name(name)
        if not isinstance(data, dict):
            raise ValueError("The data of an event must be a dict, which becomes a JSON object.")
        await self._put(name, data)

    async def close(self) -> None:
        """Write the report that waits, and refuse everything from here on: the job's next event is its end."""
        self._closed = True
        await self._reports.close()

    async def _put(self, name: str, data: dict[str, Any]) -> None:
        self._check_open()
        await self._outbox.put(name, encode_data(data))
        self._check_bounds()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("The function's attempt is over, so it can't write to its job any more.")

    def _check_bounds(self) -> None:
        if self._outbox.log_bytes > self._max_log_bytes:
            raise OutputTooLarge(f"The job's events are larger than {self._max_log_bytes} bytes (max_log_bytes).")
        if self._outbox.full:
            raise TenantFull.of_a_job()
