"""One execution of a function: the function runs in a task of its own, which a stop cancels.

Not here: the decision after a failure (job_run.py), and the job as the function sees it (job_context.py).
"""

import asyncio
from typing import Any, Final

import structlog
from pydantic import ValidationError

from shared.model.errors import (
    AttemptFailed,
    DeadlinePassed,
    FunctionFailed,
    FunctionTimeout,
    OutputTooLarge,
    PermanentFailure,
)
from shared.model.events import EventId, encode_data
from shared.model.lifecycle import State
from shared.model.own_kinds import OwnKind
from shared.store.checkpoints import Checkpoints
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.wire.answers import FinishAnswer, StopReason
from worker.execution.attempt import AttemptInput
from worker.execution.ending import Ending, ended_badly, finish_with_outbox
from worker.execution.job_context import RunningJob
from worker.execution.progress_reports import ProgressReports
from worker.execution.pump import Pump
from worker.execution.timed_steps import TimedSteps
from worker.model.digest import StreamDigest

log = structlog.get_logger()

CLEAN_UP_S: Final = 5.0
"""How long a function that was cancelled may take to return; then it is not waited for any more."""
BLOCKED_S: Final = 1.0
"""A function that runs for so long without a wait is named in the log: meanwhile no token of its worker moves."""


class FunctionRun:
    """One execution of a function, while it runs. Any task of this process may call `stop`."""

    def __init__(
        self,
        own: OwnKind,
        execution: Execution,
        given: AttemptInput,
        pump: Pump,
        store: JobRecords,
        checkpoints: Checkpoints,
        *,
        max_log_bytes: int,
    ) -> None:
        self.execution = execution
        self.stopped: StopReason | None = None
        self.shown = 0
        """The number of deltas, always 0: events of functions need no rollback."""
        self._own = own
        self._input = given.request.get("input")
        self._clock = pump.clock
        self._deadline = pump.clock.monotonic() + execution.left_ms / 1000
        self._outbox = pump.open(execution, self.stop)
        self._max_log_bytes = max_log_bytes
        reports = ProgressReports(execution, self._outbox, store, pump.clock)
        self._job = RunningJob(execution, self._outbox, reports, checkpoints, max_log_bytes, self.stop)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    @property
    def last(self) -> EventId:
        """Return the id of the last event that was put."""
        return EventId(self.execution.epoch, self._outbox.seq)

    @property
    def left_s(self) -> float:
        """Return the seconds until the job's deadline."""
        return self._deadline - self._clock.monotonic()

    def stop(self, reason: StopReason) -> None:
        """Stop this execution. The caller carries out CANCELLED and DRAIN; other reasons mean that it lost the job."""
        if self.stopped is None:
            self.stopped = reason
            self._job.cancelled = True
            self._stop.set()
            if self._task is not None:
                self._task.cancel()

    async def run(self) -> Ending | AttemptFailed | None:
        """Run the function to its end; None if it was stopped."""
        outcome = await self._outcome() if self.stopped is None else None
        await self._job.close()
        await self._outbox.flushed()
        return None if self.stopped is not None else outcome

    async def flushed(self) -> None:
        """Wait until all events are in the log."""
        await self._outbox.flushed()

    def failed(self, error: AttemptFailed) -> Ending:
        """Return the job's end if no attempt follows this failure."""
        return ended_badly(error, None, StreamDigest())

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        """Write the terminal event after all others."""
        removed = b"" if self._job.has_checkpoint and ending.state is State.COMPLETED else None
        return await finish_with_outbox(executions, self._outbox, ending, removed)

    async def _outcome(self) -> Ending | AttemptFailed | None:
        try:
            data = self._own.input_model.model_validate(self._input)
        except ValidationError:
            return PermanentFailure("invalid_request", f"The kind {self._own.name} of this worker refuses the input.")
        await self._job.resume()
        timed = TimedSteps(self._call(data), self._clock.monotonic, BLOCKED_S, self._blocked)
        task = self._task = asyncio.create_task(timed)
        if self._stop.is_set():  # while the checkpoint was read
            task.cancel()
        try:
            in_time = await self._wait(task)
        finally:
            task.cancel()
        if not in_time:
            return self._too_late() if self.stopped is None else None
        if task.cancelled():
            return self._failure(asyncio.CancelledError())
        error = task.exception()
        return self._completed(task.result()) if error is None else self._failure(error)

    async def _call(self, data: Any) -> Any:
        return await self._own.function(self._job, data)

    def _blocked(self, took_s: float) -> None:
        log.warning("function.blocked_the_loop", kind=self._own.name, took_s=round(took_s, 3))

    async def _wait(self, task: asyncio.Task[Any]) -> bool:
        """Wait for the function, a stop or the end of its time. Return whether the function has ended by itself."""
        bound = self.left_s if self._own.timeout_s is None else min(self.left_s, self._own.timeout_s)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopping], timeout=max(bound, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if task.done():
            return True
        if self.stopped is None:  # a stop has cancelled it already, and a second time would disturb its clean-up
            self._job.cancelled = True
            task.cancel()
        await asyncio.wait([task], timeout=CLEAN_UP_S)
        if not task.done():
            log.warning("function.ignores_cancellation", kind=self._own.name, after_s=CLEAN_UP_S)
        return False

    def _too_late(self) -> AttemptFailed:
        if self.left_s <= 0:
            return DeadlinePassed("The job's time-out passed before its function had returned.")
        return FunctionTimeout(f"The function of the kind {self._own.name} took longer than {self._own.timeout_s:g} s.")

    def _failure(self, error: BaseException) -> AttemptFailed:
        if isinstance(error, AttemptFailed):
            return error
        if self.stopped is None:
            log.warning("function.failed", kind=self._own.name, attempt=self.execution.attempt, exc_info=error)
        return FunctionFailed(f"The function of the kind {self._own.name} failed; the worker's log has the reason.")

    def _completed(self, result: Any) -> Ending | AttemptFailed:
        try:
            size = len(encode_data(result))
        except (TypeError, ValueError, RecursionError):
            return PermanentFailure(
                "invalid_result", f"The function of the kind {self._own.name} must return a value of JSON."
            )
        if self._outbox.log_bytes + size > self._max_log_bytes:
            return OutputTooLarge(f"The job's result is larger than {self._max_log_bytes} bytes (max_log_bytes).")
        return Ending(
            State.COMPLETED,
            {
                "finish_reason": None,
                "finish_reasons": [],
                "usage": None,
                "sha256": StreamDigest().sha256,
                "result": result,
            },
        )
