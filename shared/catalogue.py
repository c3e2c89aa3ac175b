"""The models that can be asked for, as the workers publish them.

The gateway must not talk to providers, so `/v1/models` reads what the workers last saw. Above: worker/__main__.py
writes, the gateway's API reads. Not here: routes.
"""

import json
from collections.abc import Sequence

from redis.asyncio import Redis

from shared.keys import Keys

# A fleet that is gone for longer than this has no models to offer.
_KEEP_S = 3600


class Catalogue:
    """Model names, as last seen."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def publish(self, models: Sequence[str]) -> None:
        """Replace the list."""
        await self._client.set(self._keys.models, json.dumps(sorted(set(models))), ex=_KEEP_S)

    async def models(self) -> list[str]:
        """The list, empty before any worker has published one."""
        raw = await self._client.get(self._keys.models)
        return [str(name) for name in json.loads(raw)] if raw else []
