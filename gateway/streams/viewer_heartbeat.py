"""Who is still there: every reader of this gateway is a viewer of its job, so that a job nobody reads can be given up.

How many readers each job has here is told when it changes, and again while it lasts, in batches. A gateway that dies
tells nothing any more, and leaves no ghost. Above: the API, which opens its readers here. Below: hub (what a reader
gets), viewers.py (what all gateways say together) and queue; the worker's reaper gives jobs up. Not here: when.
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
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.queue import Queue
from shared.store.viewers import View, Viewers
from shared.telemetry.metrics import Metrics

_REFRESH_S = VIEWER_LEASE_S / 3
# How long it may take until a change is told that can't end a job: readers of short jobs are gone before that.
_LAZY_S = 1.0
_RETRY_S = 0.5


class Presence:
    """The readers of this gateway, by job. `gateway` is its name among all processes."""

    def __init__(
        self, hub: Hub, viewers: Viewers, queue: Queue, gateway: str, *, metrics: Metrics | None = None
    ) -> None:
        self._hub = hub
        self._viewers = viewers
        self._queue = queue
        self._gateway = gateway
        self._readers: Counter[str] = Counter()
        # Jobs of which there is something to tell, and how long whoever left is waited for as if he were there.
        self._untold: dict[str, float] = {}
        self._telling = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._outage = Outage("presence.not_told", "presence.told_again")
        (metrics or Metrics()).viewers.of().read = self._readers.total

    @asynccontextmanager
    async def reader(
        self, job_id: str, cursor: EventId, *, mortal: bool, resumable: bool = True, counted: bool = False
    ) -> AsyncIterator[Reader]:
        """A reader from `cursor` on, see `Hub.reader`; a viewer of its job as long as the context is open.

        A job that is `mortal` may be given up when nobody reads it: changes are told at once. With `counted`, Redis has
        this viewer already: it was recorded with the job.
        """
        async with self._hub.reader(job_id, cursor, resumable=resumable) as reader:
            self._readers[job_id] += 1
            if not (counted and self._readers[job_id] == 1):
                self._tell_of(job_id, urgent=mortal)
            try:
                yield reader
            finally:
                self._readers[job_id] -= 1
                if not self._readers[job_id]:
                    del self._readers[job_id]
                self._left(reader, urgent=mortal)

    def _left(self, reader: Reader, *, urgent: bool) -> None:
        if reader.ended:
            self._untold.pop(reader.job_id, None)  # the job is over: what was told of it runs out
            return
        # Whom we broke off has not left: he comes back, to another gateway or when this one is up again.
        stay_s = VIEWER_LEASE_S if reader.broken is not None and reader.resumable else 0.0
        self._tell_of(reader.job_id, stay_s, urgent=urgent)

    def _tell_of(self, job_id: str, stay_s: float = 0.0, *, urgent: bool) -> None:
        self._untold[job_id] = max(stay_s, self._untold.get(job_id, 0.0))
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_changes())
            group.create_task(self._refresh())

    async def _refresh(self) -> None:
        lasted_s = 0.0
        while True:
            await asyncio.sleep(_LAZY_S)
            lasted_s += _LAZY_S
            if lasted_s >= _REFRESH_S:
                lasted_s = 0.0
                self._untold = {**dict.fromkeys(self._readers, 0.0), **self._untold}
            if self._untold:
                self._urgent.set()

    async def _tell_changes(self) -> None:
        while True:
            await self._urgent.wait()
            self._urgent.clear()
            if not await self.tell():
                await asyncio.sleep(_RETRY_S)
                self._urgent.set()

    async def tell(self) -> bool:
        """Tell all that is not told yet; False if Redis can't be told now."""
        async with self._telling:
            while batch := list(islice(self._untold, VIEWS)):
                views = [View(job_id, self._readers[job_id], self._untold.pop(job_id)) for job_id in batch]
                try:
                    await self._tell(views)
                    self._outage.is_over()
                except REDIS_FAULTS as error:
                    for view in views:
                        self._tell_of(view.job_id, view.stay_s, urgent=False)
                    self._outage.goes_on(error)
                    return False
        return True

    async def _tell(self, views: list[View]) -> None:
        left_s = await self._viewers.tell(self._gateway, views)
        looks = zip(views, left_s, strict=True)
        await self._queue.look_at({view.job_id: left for view, left in looks if left is not None and not view.readers})
