"""The models that can be asked for, as the workers publish them.

The gateway must not talk to providers, so `/v1/models` reads the names that the workers saw last. All are fit to be
shown. Not here: routes, and how the lists are read (worker/upstream/model_lists.py).
"""

import json

from redis.asyncio import Redis

from shared.model.model_names import ModelListing, offered
from shared.store.keys import Keys

# A fleet that is gone for longer than this has no models to offer.
_KEEP_S = 3600


class ModelCatalog:
    """Model names, as last seen."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def publish(self, listing: ModelListing) -> None:
        """Replace the listing with the names of this one that are fit to be offered."""
        await self._client.set(self._keys.models, json.dumps(offered(listing)._asdict()), ex=_KEEP_S)

    async def listing(self) -> ModelListing:
        """Read the listing: empty and not complete before any worker has published one."""
        raw = await self._client.get(self._keys.models)
        return _read(raw) if raw else ModelListing()

    async def models(self) -> list[str]:
        """Read the names alone."""
        return list((await self.listing()).models)


def _read(raw: bytes) -> ModelListing:
    """Read a worker's listing; one of another form, from another version, is empty and not complete."""
    stored = json.loads(raw)
    models = stored.get("models") if isinstance(stored, dict) else None
    return (
        offered(ModelListing(tuple(models), stored.get("complete") is True))
        if isinstance(models, list)
        else ModelListing()
    )
