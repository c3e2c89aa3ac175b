"""Refuse a model that does not exist, before a job requests it (`TAILRACE_STRICT_MODELS`).

A model exists if it has a route or an upstream lists it. Nothing is refused while the listing is not complete: before a
worker has published it, and while the list of an upstream can't be read. Not here: models that the settings name
(admission.py), and how the listing is made (worker/upstream/model_lists.py).
"""

from shared.model.errors import ModelNotFound
from shared.process.clock import Clock
from shared.store.catalog import ModelCatalog

# How long a listing is reused, so that not every submit reads thousands of names.
_FRESH_S = 1.0


class StrictModels:
    """Check models against the list that the workers last published."""

    def __init__(self, catalog: ModelCatalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._known: frozenset[str] | None = None
        self._read_at = float("-inf")

    async def check(self, model: str) -> None:
        """Check that a model exists.

        Raises:
            ModelNotFound: it does not, by the lists of all upstreams.
        """
        if self._clock.monotonic() - self._read_at > _FRESH_S:
            listing = await self._catalog.listing()
            self._known = frozenset(listing.models) if listing.complete else None
            self._read_at = self._clock.monotonic()
        if self._known is not None and model not in self._known:
            raise ModelNotFound(
                f"The model {model!r} does not exist; GET /v1/models lists those that do.", param="model"
            )
