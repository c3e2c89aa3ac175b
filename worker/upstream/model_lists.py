"""The models that can be asked for: those that have routes, and those that the upstreams of the route `*` list.

If a list can't be read now, the last one that was read counts. Not here: the rules for names that may be offered
(shared/model/model_names.py), and their way to the gateways (shared/store/catalog.py).
"""

import asyncio
from collections.abc import Mapping

import structlog

from shared.model.errors import AttemptFailed
from shared.model.model_names import ModelListing, offered
from shared.model.routes import ANY_MODEL, RouteTable
from worker.upstream.providers.base import Provider

log = structlog.get_logger()


class ModelLists:
    """Read the lists of all providers that may be asked for any model."""

    def __init__(self, table: RouteTable, providers: Mapping[str, Provider]) -> None:
        """`providers` are those that the table names."""
        self._named = table.named
        targets = table.route(ANY_MODEL).targets if table.serves_any else ()
        self._providers = {target.provider: providers[target.provider] for target in targets}
        self._last: dict[str, ModelListing] = {}
        self._left_out: dict[str, int] = {}

    async def read(self) -> ModelListing | None:
        """Ask each provider for its models; None if nothing is known of any model.

        The listing is complete if each provider has named some just now: an empty list may come from an upstream that
        can't list.
        """
        answers = await asyncio.gather(*map(self._read, self._providers))
        if not self._named and not self._last:
            return None
        listed = (name for listing in self._last.values() for name in listing.models)
        return ModelListing(tuple(dict.fromkeys((*self._named, *listed))), complete=all(answers))

    async def _read(self, provider: str) -> bool:
        """Read one provider's list; return whether it says which models the provider has."""
        try:
            names = await self._providers[provider].models()
        except AttemptFailed as error:
            log.warning("worker.no_models", provider=provider, reason=str(error))
            return False
        listing = self._last[provider] = offered(ModelListing(tuple(names), complete=True))
        self._note(provider, len(set(names)) - len(listing.models))
        return listing.complete and bool(listing.models)

    def _note(self, provider: str, left_out: int) -> None:
        """Log the number of names that are not offered, if it has changed."""
        if left_out not in (0, self._left_out.get(provider)):
            log.warning("worker.models_left_out", provider=provider, models=left_out)
        self._left_out[provider] = left_out
