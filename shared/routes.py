"""Routes: which providers may answer for a model, in which order, and what may be done when one fails.

Above: settings reads them, admission and worker/fallback.py use them. Pure. Not here: asking a provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import ModelNotFound

ANY_MODEL = "*"
"""The route of every model that has none of its own."""


class Continuation(StrEnum):
    """How a provider is asked to go on in mid-sentence."""

    NONE = "none"
    PREFILL = "prefill"
    PREFIX = "prefix"
    CONTINUE_FINAL_MESSAGE = "continue_final_message"


class OnStreamFailure(StrEnum):
    """What is done when a stream that has shown something fails."""

    CONTINUE = "continue"
    ROLLBACK = "rollback"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider, as it is configured."""

    name: str
    base_url: str
    api_key: str | None = None
    continuation: Continuation = Continuation.NONE
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A link of a chain."""

    provider: str
    first_token_s: float
    gap_s: float
    total_s: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A chain."""

    targets: tuple[Target, ...]
    on_stream_failure: OnStreamFailure = OnStreamFailure.CONTINUE
    max_attempts: int = 3


class RouteTable:
    """All routes."""

    def __init__(self, routes: Mapping[str, Route], upstreams: Mapping[str, Upstream]) -> None:
        self._routes = routes
        self.upstreams = upstreams

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are named."""
        return tuple(name for name in self._routes if name != ANY_MODEL)

    def route(self, model: str) -> Route:
        """The route of a model."""
        route = self._routes.get(model) or self._routes.get(ANY_MODEL)
        if route is None:
            served = ", ".join(self.models)
            raise ModelNotFound(f"No route serves the model {model[:100]!r}. There are: {served}.", param="model")
        return route
