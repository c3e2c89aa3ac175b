"""Record which jobs have readers at this gateway: a job without any reader can be abandoned.

The number of readers of each job is recorded in batches: when it changes, and again while it lasts. The records of a
gateway that dies expire, so that it leaves no ghost viewers. Not here: the count over all gateways
(shared/store/viewers.py), and the decision to give a job up (the worker's reaper).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

from gateway.streams.hub import Hub
from gateway.streams.reader import Reader
from shared.model.bounds import VIEWS
from shared.model.events import EventId
from shared.model.jobs import VIEWER_LEASE_S
from shared.model.metrics import Metrics
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.queue import Queue
from shared.store.viewers import View, Viewers

_REFRESH_S = VIEWER_LEASE_S / 3
# A change that can't end a job is recorded after this delay: readers of short jobs have left before that.
_LAZY_S = 1.0
_RETRY_S = 0.5


class ViewerHeartbeat:
    """Record the readers of this gateway, by job. `gateway` is its name among all processes."""

    def __init__(
        self, hub: Hub, viewers: Viewers, queue: Queue, gateway: str, *, metrics: Metrics | None = None
    ) -> None:
        self._hub = hub
        self._viewers = viewers
        self._queue = queue
        self._gateway = gateway
        self._readers: Counter[str] = Counter()
        # Jobs with a change to record, and for how long a reader that left still counts as a viewer.
        self._pending: dict[str, float] = {}
        self._reporting = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._outage = Outage("viewer_heartbeat.redis_lost", "viewer_heartbeat.redis_back")
        (metrics or Metrics()).viewers.of().read = self._readers.total

    @asynccontextmanager
    async def reader(
        self,
        job_id: str,
        cursor: EventId,
        *,
        abandonable: bool,
        resumable: bool = True,
        counted: bool = False,
        shared_by: int = 1,
    ) -> AsyncIterator[Reader]:
        """Open a reader from `cursor` on (see `Hub.reader`); it is a viewer of its job as long as the context is open.

        A job that is `abandonable` may be cancelled without a reader: changes are recorded at once. With `counted`,
        Redis has this viewer already: it was recorded with the job.
        """
        async with self._hub.reader(job_id, cursor, resumable=resumable, shared_by=shared_by) as reader:
            self._readers[job_id] += 1
            if not (counted and self._readers[job_id] == 1):
                self._record_change(job_id, urgent=abandonable)
            try:
                yield reader
            finally:
                self._readers[job_id] -= 1
                if not self._readers[job_id]:
                    del self._readers[job_id]
                self._left(reader, urgent=abandonable)

    def _left(self, reader: Reader, *, urgent: bool) -> None:
        if reader.ended:
            self._pending.pop(reader.job_id, None)  # the job is over: its record expires
            return
        # A reader that this gateway broke off will resume, at another gateway or when this one is up again.
        reconnect_grace_s = VIEWER_LEASE_S if reader.broken is not None and reader.resumable else 0.0
        self._record_change(reader.job_id, reconnect_grace_s, urgent=urgent)

    def _record_change(self, job_id: str, reconnect_grace_s: float = 0.0, *, urgent: bool) -> None:
        self._pending[job_id] = max(reconnect_grace_s, self._pending.get(job_id, 0.0))
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Record changes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_changes())
            group.create_task(self._refresh())

    async def _refresh(self) -> None:
        lasted_s = 0.0
        while True:
            await asyncio.sleep(_LAZY_S)
            lasted_s += _LAZY_S
            if lasted_s >= _REFRESH_S:
                lasted_s = 0.0
                self._pending = {**dict.fromkeys(self._readers, 0.0), **self._pending}
            if self._pending:
                self._urgent.set()

    async def _report_changes(self) -> None:
        while True:
            await self._urgent.wait()
            self._urgent.clear()
            if not await self.report():
                await asyncio.sleep(_RETRY_S)
                self._urgent.set()

    async def report(self) -> bool:
        """Record all pending changes; return False if Redis can't be reached now."""
        async with self._reporting:
            while batch := list(islice(self._pending, VIEWS)):
                views = [View(job_id, self._readers[job_id], self._pending.pop(job_id)) for job_id in batch]
                try:
                    await self._send(views)
                    self._outage.is_over()
                except REDIS_FAULTS as error:
                    for view in views:
                        self._record_change(view.job_id, view.reconnect_grace_s, urgent=False)
                    self._outage.continues(error)
                    return False
        return True

    async def _send(self, views: list[View]) -> None:
        left_s = await self._viewers.report(self._gateway, views)
        checks = zip(views, left_s, strict=True)
        await self._queue.schedule_checks(
            {view.job_id: left for view, left in checks if left is not None and not view.readers}
        )
