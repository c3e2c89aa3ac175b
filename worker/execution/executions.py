"""The kinds of jobs that a worker can execute: each is a value with the facts of the kind and a factory of executions.

A composition root may add others. An execution is a class with the members of `RunningExecution`.
Not here: the decisions before and after an execution (attempt_sequence.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from shared.model.errors import AttemptFailed
from shared.model.events import EventId
from shared.model.kinds import CHAT_KIND, EMBEDDINGS_KIND, KindSpec
from shared.model.metrics import Metrics
from shared.model.own_kinds import OwnKind
from shared.model.registry import Registry
from shared.store.checkpoints import Checkpoints
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.results import Results
from shared.store.wire.answers import FinishAnswer, StopReason
from worker.execution.access import TargetAccess, without_provider
from worker.execution.attempt import Attempt, AttemptInput
from worker.execution.embedding import Embedding
from worker.execution.ending import Ending
from worker.execution.own_function import FunctionRun
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

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        """Write the terminal event."""


@dataclass(frozen=True, slots=True)
class ExecutionServices:
    """The parts of the process that executions use, and the bounds of their output in bytes."""

    store: JobRecords
    results: Results
    checkpoints: Checkpoints
    pump: Pump
    metrics: Metrics
    max_log_bytes: int
    max_result_bytes: int


StartExecution = Callable[[Execution, AttemptInput, ExecutionServices], RunningExecution]
"""Make the execution of one attempt; `run` then runs it."""


@dataclass(frozen=True, slots=True)
class KindExecution:
    """One kind of job, as a worker executes it. Its `access` is set if it uses no provider."""

    spec: KindSpec
    start: StartExecution
    access: TargetAccess | None = None

    @property
    def name(self) -> str:
        """Return the kind's name."""
        return self.spec.name


ExecutableKinds = Registry[KindExecution]


def execution_of(own: OwnKind) -> KindExecution:
    """Return the execution of the jobs of a kind that is a function."""

    def start(execution: Execution, given: AttemptInput, services: ExecutionServices) -> RunningExecution:
        parts = (services.pump, services.store, services.checkpoints)
        return FunctionRun(own, execution, given, *parts, max_log_bytes=services.max_log_bytes)

    return KindExecution(own.spec, start, without_provider(own.max_attempts))


def _start_chat(execution: Execution, given: AttemptInput, services: ExecutionServices) -> RunningExecution:
    return Attempt(execution, given, services.pump, services.metrics, max_log_bytes=services.max_log_bytes)


def _start_embeddings(execution: Execution, given: AttemptInput, services: ExecutionServices) -> RunningExecution:
    return Embedding(
        execution,
        given,
        services.store,
        services.results,
        services.pump.clock,
        services.metrics,
        max_result_bytes=services.max_result_bytes,
    )


EXECUTABLE_KINDS: Final[ExecutableKinds] = Registry(
    "kind", (KindExecution(CHAT_KIND, _start_chat), KindExecution(EMBEDDINGS_KIND, _start_embeddings))
)
"""The kinds that each worker executes."""
