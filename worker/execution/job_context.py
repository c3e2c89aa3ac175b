"""The job as its function sees it: progress, checkpoints, events of its own, and whether it is being stopped.

Not here: the members' contract (shared/model/own_kinds.py), and the run of the function (own_function.py).
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import structlog

from shared.model.bounds import CHECKPOINT_BYTES, KIB
from shared.model.errors import OutputTooLarge, TenantFull
from shared.model.events import encode_data
from shared.model.own_kinds import check_event_name
from shared.store.checkpoints import Checkpoints
from shared.store.client import REDIS_FULL
from shared.store.executions import Execution
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import StopReason
from worker.execution.progress_reports import ProgressReports
from worker.execution.pump import Outbox

log = structlog.get_logger()

# A full server is asked again after so long.
_FULL_S: Final = 0.5


class RunningJob:
    """One attempt of a job. It is closed when its function has returned, or is not waited for any more."""

    def __init__(
        self,
        execution: Execution,
        outbox: Outbox,
        reports: ProgressReports,
        checkpoints: Checkpoints,
        max_log_bytes: int,
        on_lost: Callable[[StopReason], None],
    ) -> None:
        """Create the context of an attempt; `on_lost` is called if Redis says that it has lost the job."""
        self._checkpoints = checkpoints
        self._on_lost = on_lost
        self._has_checkpoint = False
        self.resume_from: Any = None
        """The data of the last checkpoint of an earlier attempt, after `resume`."""
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

    @property
    def has_checkpoint(self) -> bool:
        """Return whether a checkpoint of the job is stored."""
        return self._has_checkpoint

    async def resume(self) -> None:
        """Read the last checkpoint of the earlier attempts. The first one has none, and need not read."""
        if self._execution.base <= 1:
            return
        stored = await retry_until_redis_answers(lambda: self._checkpoints.load(self.id))
        self._has_checkpoint = stored is not None
        if stored is not None:
            self.resume_from = json.loads(stored)

    async def checkpoint(self, data: Any) -> None:
        """Store how far the function is; see `JobContext.checkpoint`."""
        self._check_open()
        encoded = _encode_checkpoint(data)
        answer = await self._save(encoded)
        if isinstance(answer, StopReason):
            self._on_lost(answer)
            await asyncio.Event().wait()  # the stop cancels it
            return
        self._has_checkpoint = True
        if answer:
            raise TenantFull.of_a_job()

    async def _save(self, encoded: bytes) -> bool | StopReason:
        """Store a checkpoint, with retries; return whether the tenant is full, or why the job is lost."""
        while True:
            try:
                answer = await retry_until_redis_answers(lambda: self._checkpoints.save(self._execution, encoded))
            except REDIS_FULL:
                await asyncio.sleep(_FULL_S)  # a stop ends it
                continue
            return answer if isinstance(answer, StopReason) else answer.tenant_full

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


def _encode_checkpoint(data: Any) -> bytes:
    try:
        encoded = encode_data(data)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("A checkpoint must be a value of JSON.") from None
    if data is None:
        raise ValueError("A checkpoint must not be None: resume_from is None if there is no checkpoint.")
    if len(encoded) > CHECKPOINT_BYTES:
        raise ValueError(
            f"A checkpoint may have {CHECKPOINT_BYTES // KIB} KiB as JSON; this one has {len(encoded)} bytes."
        )
    return encoded
