"""Who is still there: the callers of foreground jobs, so that a job whose caller left is cancelled.

While a caller is connected, the job's `abandon_at` is pushed on for all of this gateway's foreground jobs in one call;
when it leaves, the job has `disconnect_grace_s` left. A gateway that dies pushes nothing on, so it leaves no ghost.
Above: api/chat_completions.py. Below: store and queue; the worker's reaper carries it out.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from shared.queue import Queue
from shared.store import Store
from shared.valkey import REDIS_FAULTS, Outage

log = structlog.get_logger()

LEASE_S = 30.0
"""How long a foreground job lives without a sign of its gateway."""

_REFRESH_MOST_S, _REFRESH_LEAST_S = 10.0, 0.5


class Presence:
    """The foreground jobs of this gateway."""

    def __init__(self, store: Store, queue: Queue, *, grace_s: float) -> None:
        self._store = store
        self._queue = queue
        self._grace_s = grace_s
        self._callers: Counter[str] = Counter()
        self._leaving: set[asyncio.Task[None]] = set()
        self._outage = Outage("presence.not_told", "presence.told_again")

    @asynccontextmanager
    async def of(self, job_id: str, ended: Callable[[], bool], *, returning: bool = False) -> AsyncIterator[None]:
        """A caller waits for this job as long as the context is open; `ended` says that there is nothing to cancel.

        One who is `returning` comes to a job that was there before, and that may be about to be abandoned.
        """
        self._callers[job_id] += 1
        try:
            if returning:
                await self._push_on([job_id])
            yield
        finally:
            self._callers[job_id] -= 1
            if not self._callers[job_id]:
                del self._callers[job_id]
            if not self._callers[job_id] and not ended():
                # A task of its own: whoever leaves may be in the middle of being cancelled.
                task = asyncio.create_task(self._leave(job_id))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

    async def _leave(self, job_id: str) -> None:
        try:
            if await self._store.abandon([job_id], self._grace_s):
                await self._queue.look([job_id], self._grace_s)
        except REDIS_FAULTS as error:
            # Nothing is lost: nobody pushes `abandon_at` on any more.
            log.info("presence.leave_not_told", job=job_id, error=type(error).__name__)

    async def _push_on(self, job_ids: list[str]) -> None:
        try:
            await self._store.abandon(job_ids, LEASE_S)
            self._outage.is_over()
        except REDIS_FAULTS as error:
            self._outage.goes_on(error)

    async def run(self) -> None:
        """Push on until cancelled."""
        # Shorter than the grace: a caller that left another gateway must not end what ours still waits for.
        period_s = max(_REFRESH_LEAST_S, min(_REFRESH_MOST_S, self._grace_s / 2))
        while True:
            await asyncio.sleep(period_s)
            await self._push_on(list(self._callers))

    async def settle(self) -> None:
        """Wait until all departures are told."""
        if self._leaving:
            await asyncio.wait(self._leaving)
