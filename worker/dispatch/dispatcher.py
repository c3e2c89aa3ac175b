"""Take jobs for one process's slots, and renew their claims while they run.

`take` picks and claims the next job in one step, then arq's `run_job` runs it.
Not here: arq (arq_adapter.py), and the run of a job (worker/execution/runs.py).
"""

import asyncio
import itertools
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress

import structlog

from shared.model.errors import BrokenJob
from shared.model.lanes import Lane, LaneScheduler
from shared.store.answers import RenewAnswer, StopReason
from shared.store.client import REDIS_FAULTS, Backoff, Client, Outage
from shared.store.jobs import Store
from shared.store.keys import Keys
from shared.store.queue import CALL_LIMIT_LEASES, Claim, Queue, Taken
from shared.store.refusals import name_of
from shared.store.retrying import retry_until_redis_answers
from worker.dispatch.arq_adapter import ArqAdapter
from worker.execution.completion import CompletionSteps
from worker.execution.job_end import JobEnder
from worker.execution.runs import Runs

log = structlog.get_logger()

# A lost wake-up delays a job by this time at most. A deferred job is due earlier, or waits for the next sweep.
_SWEEP_S = 1.0
_BEATS_PER_LEASE = 4
_ALIVE_LEASES = 2
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 1.0


class Dispatcher:
    """The slots of one process: it takes jobs while a slot is free, renews their claims, and drains."""

    def __init__(
        self,
        queue: Queue,
        store: Store,
        runs: Runs,
        ender: JobEnder,
        completion_steps: CompletionSteps,
        keys: Keys,
        *,
        client: Client,
        wake_up_client: Client,
        lanes: Sequence[Lane],
        slots: int,
        lease_s: float,
        wait_s: float = 0.0,
    ) -> None:
        """Create a dispatcher that leaves jobs begun before a restart of the server to their workers for `wait_s`."""
        self._queue = queue
        self._store = store
        self._runs = runs
        self._ender = ender
        self._completion_steps = completion_steps
        self._wake_up_client = wake_up_client
        self._slots = slots
        self._host = socket.gethostname()
        self._lease_s = lease_s
        self._claims: dict[str, Claim] = {}
        # The task of each claim: a job that was handed back can be taken again before its former task has ended.
        self._holders: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        # Set if a lane may be asked that could not be before: no wake-up follows for the jobs that wait in it.
        self._freed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._beat_now = asyncio.Event()
        # A renewal that overtakes a hand-back would claim the job again, for a worker that is leaving.
        self._renewing = asyncio.Lock()
        self._spare_until = self._now() + wait_s
        self._id = uuid.uuid4().hex[:12]
        self._owners = (f"{self._id}.{n}" for n in itertools.count(1))
        self._arq = ArqAdapter(client, keys, self, slots=slots)
        self._scheduler = LaneScheduler([], slots)
        for lane in lanes:
            self._add(lane)

    def _add(self, lane: Lane) -> None:
        self._arq.add(lane.name)
        self._scheduler.add(lane)
        self._freed.set()
        self._update_room()

    def serve(self, lane: str) -> None:
        """Serve a lane in which a job was found; if it is not configured (any more), it gets the least weight."""
        if not self._arq.serves(lane):
            log.warning("dispatcher.lane_not_configured", lane=lane)
            self._add(Lane(lane))

    async def run(self) -> None:
        """Take jobs until cancelled; running jobs continue."""
        outage = Outage("dispatcher.redis_lost", "dispatcher.redis_back")
        backoff = Backoff(_PAUSE_FIRST_S, _PAUSE_MOST_S)
        while True:
            await self._room.wait()
            try:
                wait_s = await self._take_once()
                if wait_s is not None:
                    await self._wait_for_wake_up(min(wait_s, _SWEEP_S))
                outage.is_over()
                backoff.reset()
            except REDIS_FAULTS as error:
                outage.goes_on(error)
                # Claims have expired while Redis was away; their holders must renew them before others take the jobs.
                self._spare_until = self._now() + self._lease_s
                self.beat_soon()
                await asyncio.sleep(backoff.next_s())

    async def _wait_for_wake_up(self, wait_s: float) -> None:
        asked_at = self._now()
        waking = asyncio.create_task(
            self._queue.wait_for_wake_up(self._wake_up_client, self._scheduler.order(), wait_s)
        )
        freed = asyncio.create_task(self._freed.wait())
        try:
            await asyncio.wait([waking, freed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            freed.cancel()
            waking.cancel()  # a wake-up that is lost here was for a job that the next `take` finds
            await asyncio.wait([waking])
        if not waking.cancelled():
            waking.result()
        if self._now() - asked_at > wait_s + self._lease_s * CALL_LIMIT_LEASES:
            # Redis or this process was frozen: claims may have expired because they could not be renewed.
            raise TimeoutError("Redis was away.")

    async def _take_once(self) -> float | None:
        """Take a job and start it; if no job is due, return the seconds until one may be."""
        taking = asyncio.create_task(self._take())
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # A job that this call claims on the server must not be dropped here: it is started, then handed back. If
            # that takes too long, a second cancellation drops it all the same, and its lease ends.
            try:
                await asyncio.wait([taking])
            finally:
                taking.cancel()
            with suppress(*REDIS_FAULTS):
                taking.result()
            raise

    async def _take(self) -> float | None:
        owner, asked_at = next(self._owners), self._now()
        spare = asked_at < self._spare_until
        self._freed.clear()
        found = await self._queue.take(self._scheduler.order(), owner, self._lease_s, spare=spare, slots=self._slots)
        if not isinstance(found, Taken):
            return _SWEEP_S if found is None else found
        self._start(found, Claim(found.job_id, found.lane, owner, asked_at + self._lease_s))
        return None

    def _update_room(self) -> None:
        if self._scheduler.order():
            self._room.set()
        else:
            self._room.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _start(self, taken: Taken, claim: Claim) -> None:
        held = taken.job_id in self._claims
        self._claims[taken.job_id] = claim
        if held:
            # Still our job: its claim expired while Redis was away. The fence in the record has not changed.
            return
        self._scheduler.charge(taken.lane)
        task = asyncio.create_task(self._run_arq(taken))
        self._tasks.add(task)
        self._holders[taken.job_id] = task
        self._idle.clear()
        self._update_room()
        task.add_done_callback(lambda done: self._ended(taken.job_id, taken.lane, done))

    async def _run_arq(self, taken: Taken) -> None:
        structlog.contextvars.bind_contextvars(job=taken.job_id)
        try:
            await self._arq.run(taken.lane, taken.job_id, taken.due_ms)
        except REDIS_FAULTS as error:
            # Before our own code ran: the claim ends by itself, and the job is taken again.
            log.warning("dispatcher.not_started", error=name_of(error))

    def _ended(self, job_id: str, lane: str, task: asyncio.Task[None]) -> None:
        if self._holders.get(job_id) is task:
            del self._holders[job_id]
            self._claims.pop(job_id, None)
        if lane not in self._scheduler.order():
            self._freed.set()
        self._scheduler.free(lane)
        self._tasks.discard(task)
        self._update_room()
        if not self._tasks:
            self._idle.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatcher.job_task_failed", job=job_id, exc_info=error)

    async def run_job(self, job_id: str) -> None:
        """Run a claimed job."""
        if (in_s := await self._runs.run(self._claims[job_id])) is not None:
            async with self._renewing:
                # The claim as it is now: it may have been taken anew while the job ran.
                claim = self._claims.pop(job_id)
                await retry_until_redis_answers(lambda: self._queue.give_back(claim, in_s))

    async def end_unreadable(self, job_id: str) -> None:
        """End a job if its arq message is garbage or another job's; run it if the queue has only lost the message."""
        claim = self._claims[job_id]
        if not await retry_until_redis_answers(lambda: self._queue.has_message(job_id)):
            await self.run_job(job_id)
            return
        if await self._ender.end(job_id, claim.owner, BrokenJob("The job's queue message can't be read.")):
            await self._completion_steps.run(job_id, claim.lane)

    # Leases.

    async def beat(self) -> None:
        """Renew until cancelled, every quarter of a lease."""
        outage = Outage("dispatcher.beat_lost", "dispatcher.beat_back")
        while True:
            try:
                await self._beat_once()
                await self._queue.tell_alive(
                    self._host, _ALIVE_LEASES * self._lease_s, worker=self._id, slots=self._slots
                )
                outage.is_over()
            except REDIS_FAULTS as error:
                outage.goes_on(error)
            self._beat_now.clear()
            try:
                async with asyncio.timeout(self._lease_s / _BEATS_PER_LEASE):
                    await self._beat_now.wait()
            except TimeoutError:
                continue

    def beat_soon(self) -> None:
        """Read the records now, because control messages may have been lost."""
        self._beat_now.set()

    async def _beat_once(self) -> None:
        try:
            await self._ask_records()
        except REDIS_FAULTS:
            # If only the jobs' server is away, no worker can begin a job: each holder keeps its claims.
            await self._renew_claims()
            raise
        await self._renew_claims()

    async def _ask_records(self) -> None:
        executions = self._runs.executions()
        # A frozen server must not delay the claims: they are renewed while half a lease is left.
        async with asyncio.timeout(self._lease_s / _BEATS_PER_LEASE):
            answers = await self._store.beat([each.execution for each in executions])
        for execution, answer in zip(executions, answers, strict=True):
            if answer is not None:
                execution.stop(answer)

    async def _renew_claims(self) -> None:
        async with self._renewing:
            stopped = {each.execution.job_id for each in self._runs.executions() if each.stopped is not None}
            claims = [claim for claim in self._claims.values() if claim.job_id not in stopped]
            renewed = await self._queue.renew(claims, self._lease_s)
        for claim, answer in zip(claims, renewed, strict=True):
            holder = self._runs.execution(claim.job_id)
            # GONE: the queue has lost the job, or it has just ended. The fence is ours, so the execution continues.
            if answer is RenewAnswer.LOST and holder is not None and self._claims.get(claim.job_id) is claim:
                holder.stop(StopReason.LOST)

    def cancel(self, job_id: str) -> None:
        """Cancel a job if it runs here."""
        self._runs.stop(job_id, StopReason.CANCELLED)

    # Draining.

    async def drain(self, within_s: float) -> None:
        """Wait up to `within_s` for running jobs to end, then hand the rest back without costing them an attempt."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            self._runs.drain()

    @property
    def busy(self) -> int:
        """Return the number of jobs that run here now."""
        return len(self._tasks)

    async def stopped(self, within_s: float) -> None:
        """Wait until no job runs here. Jobs that take longer are dropped, and taken again when their leases end."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("dispatcher.dropped", jobs=len(self._tasks))
            for task in self._tasks:
                task.cancel()
            await self._idle.wait()
