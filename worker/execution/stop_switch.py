"""Stop the execution of a job that runs, or else the next one.

Not here: the reasons (shared/store/wire/answers.py), and an execution's reaction (attempt.py, embedding.py).
"""

from shared.model.errors import AttemptFailed
from shared.store.wire.answers import StopReason
from worker.execution.ending import Ending
from worker.execution.executions import RunningExecution


class StopSwitch:
    """The switch of one job, for all of its executions."""

    def __init__(self, *, draining: bool = False) -> None:
        self.execution: RunningExecution | None = None
        """The execution that runs now."""
        self.draining = draining
        self._reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop the execution, or the next one as soon as it begins."""
        if self.execution is not None:
            self.execution.stop(reason)
        else:
            self._reason = reason

    def drain(self) -> None:
        """Stop the execution and each later one, so that the job is handed back."""
        self.draining = True
        if self.execution is not None:
            self.execution.stop(StopReason.DRAIN)

    async def run(self, execution: RunningExecution) -> Ending | AttemptFailed | None:
        """Run an execution, which this switch stops."""
        self.execution = execution
        reason = StopReason.DRAIN if self.draining else self._reason
        if reason is not None:
            execution.stop(reason)
        try:
            return await execution.run()
        finally:
            # A stop that arrives from here on is meant for the next attempt.
            self._reason = None
            self.execution = None
