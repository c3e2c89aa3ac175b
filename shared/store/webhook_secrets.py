"""The secret with which the webhooks of a tenant are signed; on the queue's side.

Not here: signing (shared/model/webhooks/signature.py).
"""

import secrets

from redis.asyncio import Redis

from shared.model.errors import TailraceError
from shared.model.webhooks.signature import SECRET_BYTES, secret_of
from shared.store.keys import Keys


class WebhookSecrets:
    """The signing secrets of all tenants."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._key = keys.webhook_secrets

    async def of(self, tenant: str) -> str:
        """Return the secret of a tenant; it is made when it is first needed."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(self._key, tenant, secret_of(secrets.token_bytes(SECRET_BYTES)))
            pipe.hget(self._key, tenant)
            _, stored = await pipe.execute()
        if stored is None:
            raise TailraceError("Redis did not keep the signing secret of webhooks.")
        secret: str = stored.decode()
        return secret
