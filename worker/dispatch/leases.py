"""Hold the claims on the jobs of one process, renew them, and stop the executions that have lost theirs.

Not here: taking a job (dispatcher.py), and the fence in its record (shared/store/executions.py).
"""

import asyncio
import itertools
import socket
import uuid
from dataclasses import dataclass

from shared.store.client import REDIS_FAULTS, Outage
from shared.store.executions import Executions
from shared.store.queue import Claim, Queue
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import RenewAnswer, StopReason, StoredJob
from worker.execution.runs import Runs

_RENEWALS_PER_LEASE = 4
_ALIVE_LEASES = 2


@dataclass(slots=True, eq=False)
class Lease:
    """The right to run one job; `claim` is the newest one, which may have replaced the first.

    `stored` is the job as it was taken, until it is run.
    """

    claim: Claim
    stored: StoredJob | None = None


class Leases:
    """The leases of one process, by job."""

    def __init__(self, queue: Queue, executions: Executions, runs: Runs, *, slots: int, lease_s: float) -> None:
        self._queue = queue
        self._executions = executions
        self._runs = runs
        self._slots = slots
        self._lease_s = lease_s
        self._host = socket.gethostname()
        self._id = uuid.uuid4().hex[:12]
        self._owners = (f"{self._id}.{n}" for n in itertools.count(1))
        self._leases: dict[str, Lease] = {}
        self._renew_now = asyncio.Event()
        # A renewal that overtakes a hand-back would claim the job again, for a worker that is leaving.
        self._renewing = asyncio.Lock()

    def next_owner(self) -> str:
        """Return a name for the next claim of this process."""
        return next(self._owners)

    def hold(self, claim: Claim, stored: StoredJob | None = None) -> Lease | None:
        """Create the lease of a job that was just claimed; None if the job has one, which then gets the new claim.

        The claim of a running job expires while Redis is away. The fence in its record has not changed.
        """
        lease = self._leases.get(claim.job_id)
        if lease is not None:
            lease.claim = claim
            return None
        lease = self._leases[claim.job_id] = Lease(claim, stored)
        return lease

    def claim_of(self, job_id: str) -> Claim:
        """Return the newest claim on a job that is held here."""
        return self._leases[job_id].claim

    def pop_stored(self, job_id: str) -> StoredJob | None:
        """Return the job as it was taken, once; None if it was not read then."""
        lease = self._leases[job_id]
        stored, lease.stored = lease.stored, None
        return stored

    def release(self, lease: Lease) -> None:
        """Forget the lease of a job that has left this process.

        A job that was given back may be held again before its former task has ended: that lease stays.
        """
        job_id = lease.claim.job_id
        if self._leases.get(job_id) is lease:
            del self._leases[job_id]

    async def give_back(self, job_id: str, in_s: float) -> None:
        """Let any worker take a job after so many seconds; waits while Redis is away."""
        async with self._renewing:
            # The claim as it is now: it may have been taken anew while the job ran.
            claim = self._leases.pop(job_id).claim
            await retry_until_redis_answers(lambda: self._queue.give_back(claim, in_s))

    async def run(self) -> None:
        """Renew all claims until cancelled, every quarter of a lease."""
        outage = Outage("dispatcher.beat_lost", "dispatcher.beat_back")
        while True:
            try:
                await self.renew()
                await self._queue.report_alive(
                    self._host, _ALIVE_LEASES * self._lease_s, worker=self._id, slots=self._slots
                )
                outage.is_over()
            except REDIS_FAULTS as error:
                outage.continues(error)
            self._renew_now.clear()
            try:
                async with asyncio.timeout(self._lease_s / _RENEWALS_PER_LEASE):
                    await self._renew_now.wait()
            except TimeoutError:
                continue

    def renew_soon(self) -> None:
        """Check the records and renew the claims now, because control messages may have been lost."""
        self._renew_now.set()

    async def renew(self) -> None:
        """Check all executions by their records, then renew the claims of those that continue.

        Raises:
            RedisError, OSError: a server does not answer; see `REDIS_FAULTS`.
        """
        try:
            await self._check_executions()
        except REDIS_FAULTS:
            # If only the jobs' server is away, no worker can begin a job: each holder keeps its claims.
            await self._renew_claims()
            raise
        await self._renew_claims()

    async def _check_executions(self) -> None:
        executions = self._runs.executions()
        # A frozen server must not delay the claims: they are renewed while half a lease is left.
        async with asyncio.timeout(self._lease_s / _RENEWALS_PER_LEASE):
            answers = await self._executions.beat([each.execution for each in executions])
        for execution, answer in zip(executions, answers, strict=True):
            if answer is not None:
                execution.stop(answer)

    async def _renew_claims(self) -> None:
        async with self._renewing:
            stopped = {each.execution.job_id for each in self._runs.executions() if each.stopped is not None}
            claims = [lease.claim for job_id, lease in self._leases.items() if job_id not in stopped]
            renewed = await self._queue.renew(claims, self._lease_s)
        for claim, answer in zip(claims, renewed, strict=True):
            # GONE: the queue has lost the job, or it has just ended. The fence is ours, so the execution continues.
            if answer is RenewAnswer.LOST:
                self._stop_lost(claim)

    def _stop_lost(self, claim: Claim) -> None:
        """Stop the execution of a claim that another worker has, unless a newer claim has replaced it meanwhile."""
        lease, execution = self._leases.get(claim.job_id), self._runs.execution(claim.job_id)
        if execution is not None and lease is not None and lease.claim is claim:
            execution.stop(StopReason.LOST)
