"""Count the streams that each tenant has open at this gateway, and bound them.

A stream counts from the check of its request until the request is over, so that no two requests share the last place.
Not here: connections (gateway/http/protocol.py), readers (hub.py), and callers that wait for a whole answer.
"""

from collections import Counter

from starlette.types import Scope

from gateway.http.middleware import at_end
from shared.model.errors import TooManyStreams
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import TenantBounds


class OpenStreams:
    """Count the open streams of one gateway, by tenant."""

    def __init__(self, bounds: TenantBounds, metrics: Metrics | None = None) -> None:
        """Bound each tenant's streams by its `bounds`."""
        self._bounds = bounds
        self._refused = (metrics or Metrics()).refused.of("streams")
        self._open: Counter[str] = Counter()

    def of(self, tenant: str) -> int:
        """Return how many streams this tenant has open."""
        return self._open[tenant]

    def enter(self, scope: Scope, tenant: str) -> None:
        """Count a request as a stream of this tenant until the request is over.

        Raises:
            TooManyStreams: the tenant has as many as it may.
        """
        most = self._bounds.streams
        if most is not None and self._open[tenant] >= most:
            self._refused.add()
            raise TooManyStreams.at(most)
        self._open[tenant] += 1
        at_end(scope, lambda: self._leave(tenant))

    def _leave(self, tenant: str) -> None:
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]
