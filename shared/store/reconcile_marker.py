"""The marker of the last reconciliation: at most one worker compares the jobs with a queue server, and once.

It lies on the jobs' server. Not here: the comparison (worker/dispatch/reconciler.py) and the servers' names.
"""

from redis.asyncio import Redis

from shared.store.keys import Keys


class ReconcileMarker:
    """The marker that all workers share."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def acquire(self, server: str, for_s: float) -> bool:
        """Claim the reconciliation with this server for a time; False if it is done, or another worker has it."""
        if await self._client.get(self._keys.reconciled) == server.encode():
            return False
        return bool(await self._client.set(self._keys.reconciling, server, nx=True, px=int(for_s * 1000)))

    async def complete(self, server: str) -> None:
        """Record that the jobs were reconciled with this server."""
        await self._client.set(self._keys.reconciled, server)
        await self._client.delete(self._keys.reconciling)

    async def release(self) -> None:
        """Release the claim after a failure, so that any worker may retry at once."""
        await self._client.delete(self._keys.reconciling)
