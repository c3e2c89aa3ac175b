"""The routes of models: the providers in their order, and the rule for a stream that fails.

Pure. Not here: building the table from the settings (shared/config/route_settings.py), and calls to a provider
(worker/upstream/chain.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from shared.model.errors import ModelNotFound

ANY_MODEL = "*"
"""The name of the route that serves every model that has none of its own."""
OPENAI_PROTOCOL: Final = "openai"
"""The protocol of a provider that names none."""
SCRIPTED_PROTOCOL: Final = "scripted"
"""The protocol of the provider that plays scripts instead of asking a model."""


class Continuation(StrEnum):
    """The way in which a provider is asked to continue in mid-sentence.

    With the answer so far as the last message, an assistant's: as it is (PREFILL), marked `"prefix": true` (PREFIX:
    Mistral, DeepSeek), or with `continue_final_message` in the body (vLLM).
    """

    NONE = "none"
    PREFILL = "prefill"
    PREFIX = "prefix"
    CONTINUE_FINAL_MESSAGE = "continue_final_message"


class OnStreamFailure(StrEnum):
    """The rule for a stream that fails after it has shown deltas."""

    CONTINUE = "continue"
    ROLLBACK = "rollback"
    FAIL = "fail"


class MaxTokensField(StrEnum):
    """The field in which a provider takes the limit of an answer."""

    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


class EmbeddingEncoding(StrEnum):
    """The form in which a provider is asked for vectors."""

    BASE64 = "base64"
    FLOAT = "float"


class DeveloperRole(StrEnum):
    """The role that a provider takes in place of `developer`."""

    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class RequestRules:
    """The rules for writing requests to a provider. The defaults suit OpenAI.

    Without `streaming` it is asked for whole answers, without `stream_usage` not for the usage of a stream. None leaves
    fields and roles as the caller has named them. Without `pass_unknown` only OpenAI's fields are sent.
    """

    streaming: bool = True
    stream_usage: bool = True
    embedding_encoding: EmbeddingEncoding = EmbeddingEncoding.BASE64
    max_tokens_field: MaxTokensField | None = None
    developer_role: DeveloperRole | None = None
    pass_unknown: bool = True


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider, as it is configured. It gets at most `max_concurrency` calls at once; None: no bound.

    Its `protocol` is a name that the worker knows. `base_url` is None if the protocol needs no address.
    """

    name: str
    base_url: str | None
    api_key: SecretStr | None = None
    continuation: Continuation = Continuation.NONE
    max_concurrency: int | None = None
    rules: RequestRules = RequestRules()
    protocol: str = OPENAI_PROTOCOL


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A target of a chain: a provider, its name for the model (None: the caller's), and its time-outs (s).

    `total_s` bounds one attempt; None: only the job's deadline does.
    """

    provider: str
    first_token_s: float
    gap_s: float
    total_s: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The chain of a model, in order, and the rules for its failures."""

    targets: tuple[RouteTarget, ...]
    on_stream_failure: OnStreamFailure
    max_attempts: int


class RouteTable:
    """All routes, and the providers that they name."""

    def __init__(self, routes: Mapping[str, Route], upstreams: Mapping[str, Upstream]) -> None:
        self._routes = routes
        self.upstreams = upstreams

    @property
    def named(self) -> tuple[str, ...]:
        """Return the models that have routes of their own."""
        return tuple(name for name in self._routes if name != ANY_MODEL)

    @property
    def serves_any(self) -> bool:
        """Return whether models without a route of their own are served, too."""
        return ANY_MODEL in self._routes

    def route(self, model: str) -> Route:
        """Return the route of a model.

        Raises:
            ModelNotFound: none serves it.
        """
        route = self._routes.get(model) or self._routes.get(ANY_MODEL)
        if route is None:
            served = ", ".join(self.named)
            raise ModelNotFound(f"No route serves the model {model[:100]!r}. The models are: {served}.", param="model")
        return route
