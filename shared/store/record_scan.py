"""Read the records of all jobs, to restore the queue's server after it lost its data.

It reads every record, page by page: seldom, in the background. Not here: when (worker/dispatch/reconciler.py), and
the restored keys (queue.py).
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from redis.asyncio import Redis

from shared.model.bounds import SCAN_PAGE
from shared.model.errors import BrokenJob
from shared.model.jobs import Job, Listing, Place
from shared.model.lifecycle import State
from shared.store.job_records import readable
from shared.store.jobs import JobRecords
from shared.store.keys import Keys
from shared.store.queue_admission import LATE_END_MS
from shared.store.reconcile_marker import ReconcileMarker


class ScannedRecords(NamedTuple):
    """Some jobs: the places of those that have not ended, and the listings of those that can be read.

    Jobs that are `waiting` for others have no place in a lane.
    """

    places: list[Place]
    waiting: list[Job]
    listings: list[Listing]


class RecordScan:
    """Reads the records of all jobs, page by page."""

    def __init__(self, client: Redis, keys: Keys, store: JobRecords, *, retention_s: float, listed_s: float) -> None:
        """An Idempotency-Key counts for `retention_s`; a job is listed for `listed_s` after its end."""
        self.marker = ReconcileMarker(client, keys)
        self._client = client
        self._keys = keys
        self._store = store
        self._retention_ms, self._listed_ms = int(retention_s * 1000), int(listed_s * 1000)

    async def pages(self) -> AsyncIterator[ScannedRecords]:
        """Read all records, in no order. Raises one of `REDIS_FAULTS`."""
        prefix, suffix = self._keys.job("*").record.split("*")
        cursor, begun = 0, False
        while cursor or not begun:
            begun = True
            cursor, names = await self._client.scan(cursor, match=f"{prefix}*{suffix}", count=SCAN_PAGE)
            yield await self._read([name.decode().removeprefix(prefix).removesuffix(suffix) for name in names])

    async def _read(self, job_ids: list[str]) -> ScannedRecords:
        page, now_ms = ScannedRecords([], [], []), await self._store.time_ms()
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self._keys.job(job_id).record)
                pipe.pttl(self._keys.job(job_id).record)
            answers = await pipe.execute(raise_on_error=False)
        for job_id, record, left_ms in zip(job_ids, answers[::2], answers[1::2], strict=True):
            job = readable(job_id, record)
            if isinstance(job, Job) and job.status is State.WAITING:
                page.waiting.append(job)
            elif (place := await self._place(job_id, job)) is not None:
                page.places.append(place)
            if isinstance(job, Job) and not job.hidden:
                page.listings.append(self._listing(job, record, left_ms, now_ms))
        return page

    async def _place(self, job_id: str, job: Job | BrokenJob | None) -> Place | None:
        if isinstance(job, BrokenJob):
            remains = await self._store.remains(job_id)
            return None if remains is None else remains.place
        return job.place if job is not None and not job.ended else None

    def _listing(self, job: Job, record: Mapping[bytes, Any], left_ms: int, now_ms: int) -> Listing:
        if left_ms < 0:  # it has not ended
            left_ms = max(job.deadline_ms - now_ms, 0) + self._listed_ms + LATE_END_MS
        fingerprint, _, key = record.get(b"asked_under", b"").decode().partition(" ")
        key_left_ms = self._retention_ms - (now_ms - job.created_ms) if key else 0
        return Listing(job.id, job.tenant, left_ms, key, fingerprint, key_left_ms)
