"""Take jobs while this process has a free slot, start them, and drain them.

`take` picks and claims the next job in one step, then the arq adapter runs it.
Not here: the free slots (slots.py), the claims (leases.py), arq (arq_adapter.py), and a job's run (claimed_jobs.py).
"""

import asyncio

import structlog

from shared.model.lanes import Lane
from shared.store.client import REDIS_FAULTS, Backoff, Client, Outage
from shared.store.queue import CALL_LIMIT_LEASES, Claim, Queue
from shared.store.refusals import name_of
from shared.store.wire.answers import Empty, RetryLater, TakeAnswer, Taken
from worker.dispatch.arq_adapter import ArqAdapter
from worker.dispatch.leases import Lease, Leases
from worker.dispatch.slots import Slots
from worker.dispatch.uninterrupted import run_uninterrupted
from worker.execution.runs import Runs

log = structlog.get_logger()

# A lost wake-up delays a job by this time at most. A deferred job is due earlier, or waits for the next sweep.
_SWEEP_S = 1.0
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 1.0


class Dispatcher:
    """Takes and starts the jobs of one process."""

    def __init__(
        self,
        queue: Queue,
        runs: Runs,
        leases: Leases,
        slots: Slots,
        arq: ArqAdapter,
        *,
        wake_up_client: Client,
        only_own_lanes: bool = False,
        lease_s: float,
        wait_s: float = 0.0,
    ) -> None:
        """Create a dispatcher that leaves jobs begun before a restart of the server to their workers for `wait_s`.

        With `only_own_lanes`, other workers serve the lanes that `slots` does not have.
        """
        self._queue = queue
        self._runs = runs
        self._leases = leases
        self._slots = slots
        self._arq = arq
        self._wake_up_client = wake_up_client
        self._only_own_lanes = only_own_lanes
        self._lease_s = lease_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare_until = self._now() + wait_s

    @property
    def busy(self) -> int:
        """Return the number of jobs that run here now."""
        return self._slots.busy

    def serve(self, lane: str) -> None:
        """Serve a lane in which a job was found; if it is not configured (any more), it gets the least weight."""
        if self._only_own_lanes:
            return
        if not self._slots.serves(lane):
            log.warning("dispatcher.lane_not_configured", lane=lane)
            self._slots.add(Lane(lane))

    async def run(self) -> None:
        """Take jobs until cancelled; running jobs continue."""
        outage = Outage("dispatcher.redis_lost", "dispatcher.redis_back")
        backoff = Backoff(_PAUSE_FIRST_S, _PAUSE_MOST_S)
        while True:
            await self._slots.available()
            try:
                match await self._take_once():
                    case RetryLater(after_s):
                        await self._wait_for_wake_up(min(after_s, _SWEEP_S))
                    case Empty():
                        await self._wait_for_wake_up(_SWEEP_S)
                    case Taken():
                        pass
                outage.is_over()
                backoff.reset()
            except REDIS_FAULTS as error:
                outage.continues(error)
                # Claims have expired while Redis was away; their holders must renew them before others take the jobs.
                self._spare_until = self._now() + self._lease_s
                self._leases.renew_soon()
                await asyncio.sleep(backoff.next_s())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _wait_for_wake_up(self, wait_s: float) -> None:
        """Wait until a job may be due: for a wake-up, a lane that may be asked again, or so many seconds.

        Raises:
            TimeoutError: Redis or this process was frozen.
        """
        asked_at = self._now()
        waking = asyncio.create_task(self._queue.wait_for_wake_up(self._wake_up_client, self._slots.order(), wait_s))
        reopened = asyncio.create_task(self._slots.reopened())
        try:
            await asyncio.wait([waking, reopened], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reopened.cancel()
            waking.cancel()  # a wake-up that is lost here was for a job that the next `take` finds
            await asyncio.wait([waking])
        if not waking.cancelled():
            waking.result()
        if self._now() - asked_at > wait_s + self._lease_s * CALL_LIMIT_LEASES:
            # Claims may have expired because they could not be renewed.
            raise TimeoutError("Redis was away.")

    async def _take_once(self) -> TakeAnswer:
        """Take a job and start it, if one is ready; a cancellation does not drop a job that was claimed."""
        # A job that this call claims on the server must not be dropped here: it is started, then handed back. If that
        # takes too long, a second cancellation drops it all the same, and its lease ends.
        return await run_uninterrupted(self._take())

    async def _take(self) -> TakeAnswer:
        owner, asked_at = self._leases.next_owner(), self._now()
        spare = asked_at < self._spare_until
        lanes = self._slots.lanes_to_ask()
        answer = await self._queue.take(lanes, owner, self._lease_s, spare=spare, slots=self._slots.count)
        if isinstance(answer, Taken):
            claim = Claim(answer.job_id, answer.lane, owner, asked_at + self._lease_s)
            if (lease := self._leases.hold(claim, answer.stored)) is not None:
                self._start(answer, lease)
        return answer

    def _start(self, taken: Taken, lease: Lease) -> None:
        self._slots.occupy(taken.lane)
        task = asyncio.create_task(self._run_arq(taken))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(taken.lane, lease, done))

    async def _run_arq(self, taken: Taken) -> None:
        structlog.contextvars.bind_contextvars(job=taken.job_id)
        try:
            await self._arq.run(taken)
        except REDIS_FAULTS as error:
            # Before our own code ran: the claim ends by itself, and the job is taken again.
            log.warning("dispatcher.not_started", error=name_of(error))

    def _ended(self, lane: str, lease: Lease, task: asyncio.Task[None]) -> None:
        self._leases.release(lease)
        self._tasks.discard(task)
        self._slots.free(lane)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatcher.job_task_failed", job=lease.claim.job_id, exc_info=error)

    async def drain(self, within_s: float) -> None:
        """Wait up to `within_s` for running jobs to end, then hand the rest back without costing them an attempt."""
        try:
            async with asyncio.timeout(within_s):
                await self._slots.idle()
        except TimeoutError:
            self._runs.drain()

    async def stopped(self, within_s: float) -> None:
        """Wait until no job runs here. Jobs that take longer are dropped, and taken again when their leases end."""
        try:
            async with asyncio.timeout(within_s):
                await self._slots.idle()
        except TimeoutError:
            log.warning("dispatcher.dropped", jobs=len(self._tasks))
            for task in self._tasks:
                task.cancel()
            await self._slots.idle()
