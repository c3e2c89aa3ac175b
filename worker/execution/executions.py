"""The executions that a worker can make, by the kind of the job: one Protocol, and a registry of factories.

A new kind adds a class that has the Protocol's members, and one line to `execution_factories`; the kind's other
properties are in shared/model/kinds.py.
Not here: the decisions before and after an execution (job_run.py).
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from shared.model.errors import AttemptFailed
from shared.model.events import EventId
from shared.model.kinds import CHAT, EMBEDDINGS
from shared.store.answers import FinishAnswer, StopReason
from shared.store.jobs import Execution, Store
from shared.store.results import Results
from shared.telemetry.metrics import Metrics
from worker.execution.attempt import Attempt, AttemptInput
from worker.execution.embedding import Embedding
from worker.execution.ending import Ending
from worker.execution.pump import Pump


class RunningExecution(Protocol):
    """One execution of a job, while it runs."""

    execution: Execution
    stopped: StopReason | None

    @property
    def last(self) -> EventId:
        """Return the id of the last event of this execution."""

    @property
    def left_s(self) -> float:
        """Return the seconds until the job's deadline."""

    @property
    def shown(self) -> int:
        """Return the number of deltas of the answer, those of former executions included."""

    def stop(self, reason: StopReason) -> None:
        """Stop it; only the first reason counts."""

    async def run(self) -> Ending | AttemptFailed | None:
        """Run until the end; None if it was stopped."""

    async def flushed(self) -> None:
        """Wait until all of its events are in the log."""

    def failed(self, error: AttemptFailed) -> Ending:
        """Return the job's end if no attempt follows this failure."""

    async def finish(self, store: Store, ending: Ending) -> FinishAnswer:
        """Write the terminal event."""


ExecutionFactory = Callable[[Execution, AttemptInput], RunningExecution]


def execution_factories(
    store: Store, results: Results, pump: Pump, metrics: Metrics, *, max_log_bytes: int, max_result_bytes: int
) -> Mapping[str, ExecutionFactory]:
    """Return the factory of each kind of job that this version can run."""

    def chat(execution: Execution, given: AttemptInput) -> RunningExecution:
        return Attempt(execution, given, pump, metrics, max_log_bytes=max_log_bytes)

    def embeddings(execution: Execution, given: AttemptInput) -> RunningExecution:
        return Embedding(execution, given, store, results, pump.clock, metrics, max_result_bytes=max_result_bytes)

    return {CHAT: chat, EMBEDDINGS: embeddings}
