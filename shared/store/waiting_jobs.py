"""The jobs that wait for their parents, on both sides: register them, release them into their lanes, or end them.

Each method may be repeated at any time. It writes the queue before it reads the record of a waiting job, and a release
writes the record before the queue: at least one of the two sees the other.
Not here: the atomic steps (children.py, functions/parents.lua), and a job without parents (queue_admission.py).
"""

from typing import Final

from redis.asyncio import Redis

from shared.model.jobs import Job, Place
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import ParentEnd
from shared.store.children import Children
from shared.store.client import Functions
from shared.store.jobs import JobRecords
from shared.store.keys import Keys
from shared.store.queue import JOB_CHECK_S, Queue
from shared.store.wire.arq_messages import message_of, serialize

SETTLED_AT_ONCE: Final = 64
"""The children that one call settles: it must not hold up the server for all children of a large workflow."""
FIRST_CHECK_S: Final = 5.0
"""The reaper checks a new waiting job after this long: the process that registers it may have died."""


class WaitingJobs:
    """The waiting jobs of all tenants."""

    def __init__(self, client: Redis, keys: Keys, children: Children, store: JobRecords, queue: Queue) -> None:
        """Use this client of the queue's server."""
        self._functions = Functions(client, keys)
        self._keys = keys
        self._children = children
        self._store = store
        self._queue = queue

    async def advance(
        self,
        job: Job,
        check_in_s: float = JOB_CHECK_S,
        *,
        owner: str = "",
        held_until_ms: int | None = None,
    ) -> None:
        """Register a waiting job with its parents, and settle those that have ended.

        `owner` is the claim of a worker that has taken the job. The other arguments are those of `Queue.restore`.
        """
        if not await self._park(job, check_in_s, owner, held_until_ms):
            return
        for parent_id, end in (await self._children.register(job)).items():
            await self._children.settle(parent_id, end, [job.id])
        # Whatever this process knows of the job, another one may have released or ended it since.
        (now,) = await self._store.load_many([job.id])
        if not isinstance(now, Job):
            await self._leave(job.place)
        elif now.status is not State.WAITING:
            await self._follow(now.place, now.status)

    async def settle_children(self, parent_id: str, end: ParentEnd) -> None:
        """Settle the end of a job with all of its children."""
        while child_ids := await self._children.listed(parent_id, SETTLED_AT_ONCE):
            for child in await self._children.settle(parent_id, end, child_ids):
                if child.status in (State.QUEUED, State.FAILED):
                    await self._follow(child.place, child.status)
            await self._children.unlist(parent_id, child_ids)

    async def _follow(self, place: Place, status: State) -> None:
        """Write the queue as the record of a job demands that waits no longer."""
        if status in TERMINAL:
            await self._leave(place)
        elif await self._queue.restore(place, JOB_CHECK_S, lease_s=JOB_CHECK_S):
            (now,) = await self._store.load_many([place.job_id])
            if now is None or (isinstance(now, Job) and now.ended):
                # Its worker has removed the entry that is now restored.
                await self._leave(place)

    async def _leave(self, place: Place) -> None:
        """Let a worker run the completion steps, of which the removal of the queue entry is the last."""
        await self._queue.leave_lane(place.job_id, place.lane)
        await self._store.announce_end(place.job_id)

    async def _park(self, job: Job, check_in_s: float, owner: str, held_until_ms: int | None) -> bool:
        """Take a job out of its lane, and schedule its check; return False if another worker has claimed it."""
        arq = self._keys.arq
        keys = [
            self._keys.lane(job.lane),
            self._keys.active,
            arq.job + job.id,
            self._keys.wake_ups(job.lane),
            arq.in_progress + job.id,
            arq.retry + job.id,
            self._keys.reservations,
        ]
        args = (
            job.id,
            serialize(message_of(job.id)),
            int(check_in_s * 1000),
            held_until_ms or "",
            owner,
            job.tenant,
            self._keys.ledgers,
        )
        return bool(await self._functions.call("park", keys, *args))
