"""Run the jobs that this process has claimed, give them back, and end those with an unreadable message.

Not here: the claims (leases.py), and the attempts of a job (worker/execution).
"""

from shared.model.errors import BrokenJob
from shared.store.queue import Queue
from shared.store.retrying import retry_until_redis_answers
from worker.dispatch.leases import Leases
from worker.execution.completion import CompletionSteps
from worker.execution.job_end import JobEnder
from worker.execution.runs import Runs


class ClaimedJobs:
    """The handler that the arq adapter calls."""

    def __init__(
        self, queue: Queue, leases: Leases, runs: Runs, ender: JobEnder, completion_steps: CompletionSteps
    ) -> None:
        self._queue = queue
        self._leases = leases
        self._runs = runs
        self._ender = ender
        self._completion_steps = completion_steps

    async def run_job(self, job_id: str) -> None:
        """Run a claimed job; give it back if it has not ended and no other worker has it."""
        claim, stored = self._leases.claim_of(job_id), self._leases.pop_stored(job_id)
        if (in_s := await self._runs.run(claim, stored)) is not None:
            await self._leases.give_back(job_id, in_s)

    async def end_unreadable(self, job_id: str) -> None:
        """End a job if its arq message is garbage or another job's; run it if the queue has only lost the message."""
        claim = self._leases.claim_of(job_id)
        if not await retry_until_redis_answers(lambda: self._queue.has_message(job_id)):
            await self.run_job(job_id)
            return
        if await self._ender.end(job_id, claim.owner, BrokenJob("The job's queue message can't be read.")):
            await self._completion_steps.run(job_id, claim.lane)
