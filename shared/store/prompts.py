"""The jobs with a prompt, by its fingerprint: they are found again although their caller sends no id back.

Nothing of a prompt is stored here, and one tenant never finds another's jobs. Not here: how a fingerprint is made
(gateway/dialects/responses/answer_state.py).
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from shared.model.bounds import SAME_PROMPTS
from shared.store.keys import Keys


class Prompts:
    """All prompts with jobs that can be found."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def add(self, tenant: str, fingerprint: str, job_id: str, *, keep_s: float) -> None:
        """Record a job under its prompt, for so long."""
        key = self._keys.prompt(tenant, fingerprint)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.lpush(key, job_id)
            pipe.ltrim(key, 0, SAME_PROMPTS - 1)
            pipe.pexpire(key, int(keep_s * 1000))
            await pipe.execute()

    async def jobs(self, tenant: str, fingerprints: Sequence[str]) -> list[list[str]]:
        """Find the jobs of each prompt, the latest first, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for fingerprint in fingerprints:
                pipe.lrange(self._keys.prompt(tenant, fingerprint), 0, -1)
            found: list[list[bytes]] = await pipe.execute()
        return [[job_id.decode() for job_id in jobs] for jobs in found]
