"""The parts of the process that the run of a job uses, and its limits.

Not here: the run itself (job_run.py).
"""

from dataclasses import dataclass

from shared.model.events import EventId
from shared.model.metrics import Metrics
from shared.store.executions import Executions
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.replay_log import ReplayLog
from shared.store.retrying import retry_until_redis_answers
from shared.store.waiting_jobs import WaitingJobs
from worker.execution.access import TargetAccess
from worker.execution.ending import read_partial_answer
from worker.execution.executions import ExecutableKinds, ExecutionServices
from worker.execution.job_end import JobEnder
from worker.execution.parent_answers import ParentAnswers
from worker.model.digest import PartialAnswer
from worker.model.token_estimate import SavedTokenEstimate


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The costs that one job may cause: lost workers, and deltas that are generated again."""

    max_crashes: int
    max_regenerated_tokens: int


@dataclass(frozen=True, slots=True)
class RunServices:
    """The parts of the process that each run uses."""

    store: JobRecords
    executions: Executions
    replay_log: ReplayLog
    queue: Queue
    waiting: WaitingJobs
    parents: ParentAnswers
    providers: TargetAccess
    ender: JobEnder
    kinds: ExecutableKinds
    execution_services: ExecutionServices
    limits: RunLimits
    lease_s: float
    metrics: Metrics
    token_estimate: SavedTokenEstimate

    async def read_partial(self, job_id: str) -> tuple[PartialAnswer, EventId]:
        """Read the answer so far from the log, and the event at which it ends; wait while Redis is unavailable."""
        return await retry_until_redis_answers(lambda: read_partial_answer(self.replay_log, job_id))
