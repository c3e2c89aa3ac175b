"""The jobs of each tenant on the queue's server: read their lists, and restore what the server has lost.

Not here: new entries, which a job's admission makes (queue_admission.py).
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from shared.model.jobs import LONGEST_TIMEOUT_S, Listing
from shared.store.client import Functions
from shared.store.keys import Keys


class TenantLists:
    """The lists of all tenants."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def listed(self, tenant: str, *, after: str | None, limit: int) -> list[str]:
        """Return a tenant's job ids, newest first; with `after`, those that follow it in that order."""
        newest = "+" if after is None else f"({after}"
        ids = await self._client.zrevrangebylex(self._keys.tenant_jobs(tenant), newest, "-", start=0, num=limit)
        return [job_id.decode() for job_id in ids]

    async def unlist(self, tenant: str, job_ids: Sequence[str]) -> None:
        """Remove ids of jobs that are gone; admitted jobs stay, although their records may not be written yet."""
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.zscore(self._keys.active, job_id)
            scores = await pipe.execute() if job_ids else []
        gone = [job_id for job_id, score in zip(job_ids, scores, strict=True) if score is None]
        if gone:
            await self._client.zrem(self._keys.tenant_jobs(tenant), *gone)

    async def relist(self, listings: Sequence[Listing]) -> None:
        """Restore the lists and Idempotency-Keys of these jobs after the server lost them."""
        keys: list[str] = []
        args: list[str | int] = []
        for each in listings:
            keys.append(self._keys.tenant_jobs(each.tenant))
            args += [each.job_id, each.kept_ms]
            if each.key_left_ms > 0:
                keys.append(self._keys.idempotency(each.tenant, each.key))
                args += [f"{each.job_id} {each.fingerprint}", each.key_left_ms]
        if keys:
            most_ms = int(LONGEST_TIMEOUT_S * 1000) + max(each.kept_ms for each in listings)
            await self._functions.call("relist", keys, most_ms, *args)

    async def restore_bound(self, tenant: str, running: str, for_s: float) -> None:
        """Restore the bound of a tenant's running jobs that the server lost, unless a new job has set it since."""
        terms = self._keys.tenant_terms(tenant)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hsetnx(terms, "running", running)
            pipe.pexpire(terms, int(for_s * 1000))
            await pipe.execute()
