"""Concurrency permits of providers: they limit the calls that all workers together make to one provider at once.

A semaphore with leases: the permit of a crashed worker is free again when its lease ends. Waiters are served in the
order of their first request. Not here: the waiting itself (worker/upstream/concurrency.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from shared.store.client import Functions
from shared.store.keys import Keys
from shared.store.wire.control import PermitReleased, encode_message

WAITER_TIMEOUT_S = 3.0
"""A waiter that stops polling for this long loses its position."""


class PermitHolder(NamedTuple):
    """A worker process that calls a provider for a job."""

    provider: str
    worker: str
    job_id: str

    @property
    def name(self) -> str:
        """Name the holder in Redis."""
        return f"{self.worker}/{self.job_id}"


class ConcurrencyPermits:
    """The permits of all providers, on the jobs' server."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def acquire(self, holder: PermitHolder, limit: int, lease_s: float, *, queue: bool = True) -> bool:
        """Acquire a permit if one is free that no earlier waiter may have; otherwise wait in the queue if `queue`."""
        keys = self._keys.permits(holder.provider)
        return bool(
            await self._functions.call(
                "acquire_permit",
                [keys.holders, keys.waiters, keys.interest],
                holder.name,
                holder.job_id,
                limit,
                int(lease_s * 1000),
                int(WAITER_TIMEOUT_S * 1000) if queue else "",
            )
        )

    async def release(self, holder: PermitHolder) -> None:
        """Release a permit, and notify the workers if a job waits for one; idempotent."""
        keys = self._keys.permits(holder.provider)
        message = encode_message(PermitReleased(holder.provider))
        await self._functions.call(
            "release_permit", [keys.holders, keys.waiters], holder.name, self._keys.control, message
        )

    async def renew(self, holders: Sequence[PermitHolder], lease_s: float) -> None:
        """Renew the leases of these permits, in one round trip."""
        if holders:
            keys = [self._keys.permits(holder.provider).holders for holder in holders]
            names = [holder.name for holder in holders]
            await self._functions.call("renew_permits", keys, int(lease_s * 1000), *names)
