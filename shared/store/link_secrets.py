"""The secrets of signed links that all gateways share where none is configured; on the jobs' side.

One signs for all: the first gateway's. If the server forgets it, another gateway may bring another one, before those
that still have the former one have written it again. So each gateway keeps what it has signed with among the others.
Not here: signing (gateway/model/auth.py).
"""

from redis.asyncio import Redis

from shared.model.errors import TailraceError
from shared.store.keys import Keys


class LinkSecrets:
    """The secrets of all gateways, on one server."""

    def __init__(self, client: Redis, keys: Keys, *, kept_s: float) -> None:
        """A secret that does not sign any more is kept for `kept_s`: as long as a link may be good."""
        self._client = client
        self._keys = keys
        self._kept_ms = int(kept_s * 1000)

    async def signing(self, fresh: str) -> str:
        """Read the secret that signs; `fresh` becomes it if there is none."""
        await self._client.set(self._keys.secret, fresh, nx=True)
        secret: bytes | None = await self._client.get(self._keys.secret)
        if secret is None:
            raise TailraceError("Redis did not keep the signing secret.")
        return secret.decode()

    async def keep(self, secret: str) -> None:
        """Keep a secret that some links are signed with, though another one signs now."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.link_secrets, {secret: 0})
            pipe.pexpire(self._keys.link_secrets, self._kept_ms)
            await pipe.execute()

    async def others(self) -> list[str]:
        """Read those that are kept."""
        return [secret.decode() for secret in await self._client.zrange(self._keys.link_secrets, 0, -1)]
