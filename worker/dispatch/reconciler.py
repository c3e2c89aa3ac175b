"""Finds the jobs that the queue's server has forgotten, once it has become another one: flushed, restarted or replaced.

Where queue and jobs live on different servers, the queue's may lose its last second and with it what lane, reaper and
bell knew of a job whose record is kept. One worker of the fleet then walks all records, puts back what has not ended,
and writes the tenants' lists and the Idempotency-Keys again. Above: __main__ and reaper. Below: job_walk, store and
queue. Not here: what is due for a look in ordinary times (reaper.py).
"""

from collections.abc import Iterable
from contextlib import suppress

import structlog

from shared.model.jobs import LONGEST_TIMEOUT_S, Job, Place
from shared.model.lifecycle import State
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.job_walk import JobWalk
from shared.store.jobs import Store
from shared.store.queue import LOOK_S, Queue
from shared.store.repeated_check import repeat
from worker.execution.completion import Epilogue

log = structlog.get_logger()

_CHECK_S = 2.0
# A worker that dies in mid-walk, or whose walk the jobs' server forgets, is replaced after this long; two that walk at
# once do no harm.
_WALK_S = 10.0


class Recovery:
    """One process's share: it walks if no other does."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        walk: JobWalk,
        epilogue: Epilogue,
        *,
        lease_s: float,
        bounds: TenantBounds = UNBOUNDED,
    ) -> None:
        """`bounds` are those of each tenant."""
        self._walk_of_jobs = walk
        self._bounds = bounds
        self._store = store
        self._queue = queue
        self._epilogue = epilogue
        self._lease_s = lease_s

    async def run(self) -> None:
        """Look at the queue's server now and then, until cancelled."""
        await repeat(self.check, _CHECK_S, Outage("recovery.redis_lost", "recovery.redis_back"))

    async def check(self) -> bool:
        """Walk if either server is not the one that was there at the last comparison; whether it was done."""
        server = await identity_of(self._store, self._queue)
        if not await self._walk_of_jobs.marker.acquire(server, _WALK_S):
            return False
        walked = False
        try:
            restored = await self._walk()
            await self._walk_of_jobs.marker.complete(server)
            walked = True
        finally:
            if not walked:
                # A server that still loads its data tells who it is, and no more; or this worker is stopped. The next
                # try must not wait for `_WALK_S`.
                with suppress(*REDIS_FAULTS):
                    await self._walk_of_jobs.marker.release()
        log.info("recovery.walked", restored=restored)
        return True

    async def _walk(self) -> int:
        restored, waiting = 0, list[Place]()
        async for walked in self._walk_of_jobs.pages():
            restored += await self._put_back(place for place in walked.places if place.began)
            waiting += [place for place in walked.places if not place.began]
            await self._queue.relist(walked.listings)
        # Those that ran count first against the bounds of their tenants.
        return restored + await self._put_back(waiting)

    async def _put_back(self, places: Iterable[Place]) -> int:
        restored, bounded = 0, set[str]()
        for place in places:
            parts = (self._store, self._queue, self._epilogue)
            if not await put_back(*parts, place, LOOK_S, lease_s=self._lease_s):
                continue
            restored += 1
            if (term := self._bounds.running_term) and place.tenant and place.tenant not in bounded:
                # What the queue's server has lost it has lost of the tenant, too.
                bounded.add(place.tenant)
                await self._queue.bound(place.tenant, term, LONGEST_TIMEOUT_S)
        return restored


async def identity_of(store: Store, queue: Queue) -> str:
    """Name both servers as they are now: another name means that one of them may have forgotten something.

    A jobs' server that loses its last second may forget the end of a job, which the queue no longer holds.
    """
    return f"{await queue.identity()} {(await store.server()).run_id}"


async def put_back(
    store: Store,
    queue: Queue,
    epilogue: Epilogue,
    place: Place,
    look_in_s: float,
    *,
    lease_s: float,
    held_until_ms: int | None = None,
) -> bool:
    """Give the queue a job that it had lost; whether it had. The arguments are `Queue.restore`'s."""
    if not await queue.restore(place, look_in_s, lease_s=lease_s, held_until_ms=held_until_ms):
        return False
    # It may have ended since its record was read: then the queue had not lost it, but let it go.
    (now,) = await store.load_many([place.job_id])
    if now is None or (isinstance(now, Job) and now.ended):
        await epilogue.run(place.job_id, place.lane, failed=now is not None and now.status is State.FAILED)
        return False
    log.warning("recovery.put_back", job=place.job_id)
    return True
