"""End a job that no execution of this process runs: its terminal event is made from its log.

Not here: the event itself (ending.py), and the steps that follow a job's end (completion.py).
"""

from shared.model.errors import BrokenJob, Cancelled, JobNotFound, TailraceError
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.replay_log import ReplayLog
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import BeginRefusal, FinishAnswer, StopReason, has_ended
from worker.execution.ending import estimate_tokens, finish_from_log
from worker.model.token_estimate import SavedTokenEstimate


class JobEnder:
    """Ends jobs by their records and logs; waits while Redis is away."""

    def __init__(
        self, store: JobRecords, executions: Executions, replay_log: ReplayLog, token_estimate: SavedTokenEstimate
    ) -> None:
        self._store = store
        self._executions = executions
        self._log = replay_log
        self._token_estimate = token_estimate

    async def end(self, job_id: str, owner: str, error: TailraceError, epoch: int | None = None) -> bool:
        """End a job with the next epoch. Return whether it has ended now, by this call or another.

        With an `epoch`, nothing happens if another epoch has begun since it was read.
        """
        execution = await retry_until_redis_answers(lambda: self._executions.take_over(job_id, owner, epoch))
        if isinstance(execution, BeginRefusal):
            return execution.job_has_ended
        try:
            tokens = await self._prompt_tokens(job_id)
            answer = await self._finish(execution, error, tokens)
            if answer is StopReason.CANCELLED:
                return await self.end_cancelled(execution)
        except JobNotFound:
            return True
        return has_ended(answer)

    async def end_cancelled(self, execution: Execution) -> bool:
        """End a cancelled job with the execution that holds it. Return whether it has ended now."""
        error = await self.cancellation(execution.job_id)
        tokens = await self._prompt_tokens(execution.job_id)
        return has_ended(await self._finish(execution, error, tokens))

    async def _finish(self, execution: Execution, error: TailraceError, tokens: int) -> FinishAnswer:
        return await finish_from_log(
            self._store, self._executions, self._log, execution, error, tokens, self._token_estimate
        )

    async def cancellation(self, job_id: str) -> Cancelled:
        """Return the error of a cancelled job, with the reason that its record has."""
        code, _ = await retry_until_redis_answers(lambda: self._store.cancel_state(job_id))
        return Cancelled.because(code)

    async def _prompt_tokens(self, job_id: str) -> int:
        try:
            return estimate_tokens(await retry_until_redis_answers(lambda: self._store.request(job_id)))
        except BrokenJob:
            return 0
