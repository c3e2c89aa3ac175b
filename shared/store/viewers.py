"""The viewers of jobs: each gateway reports its readers for a lease, and they are counted over all gateways.

The readers of a crashed gateway expire with its lease. Not here: abandonment itself (worker/dispatch/reaper.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from shared.model.jobs import VIEWER_LEASE_S
from shared.store.client import Functions
from shared.store.keys import Keys


class View(NamedTuple):
    """A gateway's report about one job: its readers.

    If it has none any more, the job stays alive for `reconnect_grace_s`: the gateway itself disconnected them.
    """

    job_id: str
    readers: int
    reconnect_grace_s: float = 0.0


class Viewers:
    """All jobs' viewers."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._functions = Functions(client, keys)
        self._keys = keys

    async def report(self, gateway: str, views: Sequence[View]) -> list[float | None]:
        """Replace this gateway's reports about these jobs; valid for `VIEWER_LEASE_S`.

        Returns the seconds until each job is abandoned unless a viewer arrives or renews its lease; None: never.
        """
        if not views:
            return []
        jobs = [self._keys.job(view.job_id) for view in views]
        keys = [key for job in jobs for key in (job.record, job.viewers, job.readers)]
        said = [part for view in views for part in (view.readers, int(view.reconnect_grace_s * 1000))]
        answers: list[int] = await self._functions.call("view", keys, gateway, int(VIEWER_LEASE_S * 1000), *said)
        return [None if left_ms < 0 else left_ms / 1000 for left_ms in answers]

    async def count(self, job_ids: Sequence[str]) -> list[int]:
        """Count the readers of each job, over all gateways."""
        if not job_ids:
            return []
        jobs = [self._keys.job(job_id) for job_id in job_ids]
        counts: list[int] = await self._functions.call(
            "count_viewers", [key for job in jobs for key in (job.viewers, job.readers)]
        )
        return counts
