"""Restore the jobs that the queue's server has lost after it was flushed, restarted or replaced.

If queue and jobs are on different servers, the queue's server may lose its last second. The entries of a job for lane,
reaper and wake-up are then lost while its record remains. One worker of the fleet reads all records, puts back the jobs
that have not ended, and writes the tenants' lists and the Idempotency-Keys again.
Not here: the regular checks of single jobs (reaper.py).
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import structlog

from shared.model.jobs import LONGEST_TIMEOUT_S, Job, Place
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.jobs import JobRecords
from shared.store.queue import JOB_CHECK_S, Queue
from shared.store.record_scan import RecordScan
from shared.store.repeated_check import repeat
from shared.store.tenant_lists import TenantLists
from shared.store.waiting_jobs import WaitingJobs
from worker.dispatch.uninterrupted import run_uninterrupted
from worker.execution.completion import CompletionSteps

log = structlog.get_logger()

_CHECK_S = 2.0
# Another worker takes over after this long if one dies meanwhile, or if the jobs' server loses its marker. Two at
# once do no harm.
_RECONCILE_S = 10.0
_RELEASE_S = 0.5


class Reconciler:
    """The reconciler of one process: it reads the records if no other process does."""

    def __init__(
        self,
        store: JobRecords,
        queue: Queue,
        waiting_jobs: WaitingJobs,
        tenant_lists: TenantLists,
        record_scan: RecordScan,
        completion_steps: CompletionSteps,
        *,
        lease_s: float,
        bounds: TenantBounds = UNBOUNDED,
    ) -> None:
        """Create the reconciler; `bounds` are those of each tenant."""
        self._record_scan = record_scan
        self._bounds = bounds
        self._store = store
        self._queue = queue
        self._waiting_jobs = waiting_jobs
        self._tenant_lists = tenant_lists
        self._completion_steps = completion_steps
        self._lease_s = lease_s

    async def run(self) -> None:
        """Check both servers regularly, until cancelled."""
        await repeat(self.check, _CHECK_S, Outage("reconciler.redis_lost", "reconciler.redis_back"))

    async def check(self) -> bool:
        """Read the records if either server has changed since the last comparison; return whether it was done."""
        server = await identity_of(self._store, self._queue)
        if not await self._record_scan.marker.acquire(server, _RECONCILE_S):
            return False
        completed = False
        try:
            restored = await self._reconcile()
            await self._record_scan.marker.complete(server)
            completed = True
        finally:
            if not completed:
                # A server that still loads its data answers only with its identity; or this worker is being stopped.
                # The next one must not wait for `_RECONCILE_S`, nor a stopping worker for a silent server.
                with suppress(TimeoutError, *REDIS_FAULTS):
                    async with asyncio.timeout(_RELEASE_S):
                        await self._record_scan.marker.release()
        log.info("reconciler.completed", restored=restored)
        return True

    async def _reconcile(self) -> int:
        restored, waiting = 0, list[Place]()
        async for page in self._record_scan.pages():
            restored += await self._put_back(place for place in page.places if place.began)
            waiting += [place for place in page.places if not place.began]
            for job in page.waiting:
                await self._waiting_jobs.advance(job)
            await self._tenant_lists.relist(page.listings)
        # Those that ran count first against the bounds of their tenants.
        return restored + await self._put_back(waiting)

    async def _put_back(self, places: Iterable[Place]) -> int:
        restored, bounded = 0, set[str]()
        for place in places:
            parts = (self._store, self._queue, self._completion_steps)
            if not await put_back(*parts, place, JOB_CHECK_S, lease_s=self._lease_s):
                continue
            restored += 1
            if (term := self._bounds.running_term) and place.tenant and place.tenant not in bounded:
                # With the job, the queue's server has lost the bound of its tenant.
                bounded.add(place.tenant)
                await self._tenant_lists.restore_bound(place.tenant, term, LONGEST_TIMEOUT_S)
        return restored


async def identity_of(store: JobRecords, queue: Queue) -> str:
    """Return the identity of both servers; if it changes, one of them may have lost data.

    A jobs' server that loses its last second may lose the end of a job, which the queue no longer holds.
    """
    return f"{await queue.identity()} {(await store.server()).run_id}"


async def put_back(
    store: JobRecords,
    queue: Queue,
    completion_steps: CompletionSteps,
    place: Place,
    check_in_s: float,
    *,
    lease_s: float,
    held_until_ms: int | None = None,
) -> bool:
    """Restore a job that the queue has lost; return whether it had. The arguments are those of `Queue.restore`.

    A worker that is stopped meanwhile still completes both steps: the entry of an ended job would else wait for another
    worker to remove it.
    """

    async def both_steps() -> bool:
        if not await queue.restore(place, check_in_s, lease_s=lease_s, held_until_ms=held_until_ms):
            return False
        return await _still_needed(store, completion_steps, place)

    return await run_uninterrupted(both_steps(), _RELEASE_S)


async def _still_needed(store: JobRecords, completion_steps: CompletionSteps, place: Place) -> bool:
    """Complete a restored job that has ended since its record was read: the queue has not lost it but released it."""
    (now,) = await store.load_many([place.job_id])
    if now is None or (isinstance(now, Job) and now.ended):
        await completion_steps.run(place.job_id, place.lane)
        return False
    log.warning("reconciler.put_back", job=place.job_id)
    return True
