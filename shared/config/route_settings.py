"""The settings of providers and routes, and the routes that result from them.

A chain's item is a provider's name, a table with a provider and its different values, or another route, to be replaced
by its chain. Pure. Not here: reading the environment (settings.py), and the routes themselves (shared/model/routes.py).
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from shared.model.bounds import CHAIN
from shared.model.routes import (
    OPENAI_PROTOCOL,
    SCRIPTED_PROTOCOL,
    Continuation,
    DeveloperRole,
    EmbeddingEncoding,
    MaxTokensField,
    OnStreamFailure,
    RequestRules,
    Route,
    RouteTarget,
    Upstream,
)

SCRIPTED_URL: Final = "scripted:"
"""The address of the provider that plays scripts instead of asking a model."""

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ProviderSettings(_Strict):
    """The settings of one upstream."""

    protocol: str = Field(
        OPENAI_PROTOCOL,
        min_length=1,
        description="the API that it speaks: openai, or scripted (answers without a model, and without a `base_url`)",
    )
    base_url: str | None = Field(None, min_length=1, description="its address, as in `https://api.openai.com/v1`")
    api_key: SecretStr | None = Field(None, description="its key")
    continuation: Continuation = Field(
        Continuation.NONE,
        description="how it is asked to go on in mid-sentence: none, prefill, prefix or continue_final_message",
    )
    max_concurrency: int | None = Field(
        None, ge=1, description="calls that all workers together make to it at once; unset: as many as there are slots"
    )
    streaming: bool = Field(
        True,
        description="whether it can stream; if not, an answer comes whole, as one delta, within the time-out of a "
        "first token",
    )
    stream_usage: bool = Field(
        True, description="whether it takes `stream_options`; if not, usage is an estimate, unless it comes unasked"
    )
    embedding_encoding: EmbeddingEncoding = Field(
        EmbeddingEncoding.BASE64, description="the `encoding_format` that it is asked for: base64 or float"
    )
    max_tokens_field: MaxTokensField | None = Field(
        None,
        description="the name of the answer's limit, whichever the caller used: max_tokens or max_completion_tokens; "
        "unset: the caller's",
    )
    developer_role: DeveloperRole | None = Field(
        None, description="`system` if it does not know the role `developer`; unset: the caller's"
    )
    pass_unknown: bool = Field(True, description="whether it gets fields that OpenAI does not have, such as `top_k`")

    @model_validator(mode="after")
    def _has_an_address(self) -> "ProviderSettings":
        # The other protocols are known to the worker only.
        if self.protocol == OPENAI_PROTOCOL and self.base_url is None:
            raise ValueError("base_url is missing: the protocol openai needs an address")
        return self

    @property
    def rules(self) -> RequestRules:
        """Return the rules for writing requests to this upstream."""
        return RequestRules(
            streaming=self.streaming,
            stream_usage=self.stream_usage,
            embedding_encoding=self.embedding_encoding,
            max_tokens_field=self.max_tokens_field,
            developer_role=self.developer_role,
            pass_unknown=self.pass_unknown,
        )


class RouteTargetSettings(_Strict):
    """One item of a chain: a provider or a route, and the time-outs (s) of a provider if they differ."""

    provider: str | None = None
    route: str | None = None
    model: str | None = Field(None, min_length=1)
    first_token_timeout_s: _Seconds | None = None
    gap_timeout_s: _Seconds | None = None
    attempt_timeout_s: _Seconds | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "RouteTargetSettings":
        if (self.provider is None) == (self.route is None):
            raise ValueError("it must name either a provider or a route")
        if self.route is not None and self.model_fields_set != {"route"}:
            raise ValueError("another route has its own models and time-outs: name nothing but the route")
        return self


def _item(value: Any) -> Any:
    return {"provider": value} if isinstance(value, str) else value


class RouteSettings(_Strict):
    """The settings of one model's route."""

    chain: tuple[Annotated[RouteTargetSettings, BeforeValidator(_item)], ...] = Field(min_length=1)
    on_stream_failure: OnStreamFailure | None = None
    max_attempts: int | None = Field(None, ge=1, le=100)
    first_token_timeout_s: _Seconds | None = None
    gap_timeout_s: _Seconds | None = None
    attempt_timeout_s: _Seconds | None = None


def check_chains(routes: Mapping[str, RouteSettings], providers: Mapping[str, ProviderSettings]) -> None:
    """Check that each chain leads to existing providers.

    Raises:
        ValueError: the sentence names the item and the missing provider or route, the routes of a cycle, or the chain
            with too many targets.
    """
    for name, route in routes.items():
        for position, item in enumerate(route.chain):
            where = f"{name}.chain[{position}]"
            if item.provider is not None and item.provider not in providers:
                raise ValueError(
                    f"{where} names the provider {item.provider}, which does not exist; {_choice(providers)}"
                )
            if item.route is not None and item.route not in routes:
                raise ValueError(f"{where} names the route {item.route}, which does not exist; {_choice(routes)}")
    fine: set[str] = set()
    for name in routes:
        _check_loop(name, routes, (name,), fine)
    for name in routes:
        if _count(name, routes) > CHAIN:
            raise ValueError(f"{name}.chain must have at most {CHAIN} targets, those of its routes included")


def _count(name: str, routes: Mapping[str, RouteSettings]) -> int:
    """Count the targets of a chain, until they are too many."""
    count = 0
    for item in routes[name].chain:
        count += 1 if item.route is None else _count(item.route, routes)
        if count > CHAIN:
            break
    return count


def _check_loop(name: str, routes: Mapping[str, RouteSettings], way: tuple[str, ...], fine: set[str]) -> None:
    """Refuse a cycle of routes; `fine` are the routes that are known to be free of cycles."""
    for item in routes[name].chain:
        if item.route in way:
            raise ValueError(f"{way[0]}.chain contains a cycle of routes: {_way(way, item.route)}")
        if item.route is not None and item.route not in fine:
            _check_loop(item.route, routes, (*way, item.route), fine)
    fine.add(name)


def _way(way: tuple[str, ...], last: str | None) -> str:
    return " → ".join((*way, last or ""))


def _choice(names: Mapping[str, Any]) -> str:
    return f"choose one of: {', '.join(names)}" if names else "none is configured"


class Defaults(_Strict):
    """The values for the fields that a route leaves out."""

    on_stream_failure: OnStreamFailure
    max_attempts: int
    first_token_timeout_s: float
    gap_timeout_s: float


def routes_of(routes: Mapping[str, RouteSettings], defaults: Defaults) -> dict[str, Route]:
    """Build the routes of these checked settings."""
    return {
        name: Route(
            tuple(_targets(name, routes, defaults)),
            route.on_stream_failure or defaults.on_stream_failure,
            route.max_attempts or defaults.max_attempts,
        )
        for name, route in routes.items()
    }


def _targets(name: str, routes: Mapping[str, RouteSettings], defaults: Defaults) -> Iterator[RouteTarget]:
    route = routes[name]
    for item in route.chain:
        if item.provider is None:
            yield from _targets(str(item.route), routes, defaults)
        else:
            yield RouteTarget(
                item.provider,
                item.first_token_timeout_s or route.first_token_timeout_s or defaults.first_token_timeout_s,
                item.gap_timeout_s or route.gap_timeout_s or defaults.gap_timeout_s,
                item.attempt_timeout_s or route.attempt_timeout_s,
                item.model,
            )


def upstream_of(name: str, provider: ProviderSettings) -> Upstream:
    """Build the upstream of a provider's settings."""
    return Upstream(
        name,
        provider.base_url,
        provider.api_key,
        provider.continuation,
        provider.max_concurrency,
        provider.rules,
        protocol_of(provider.base_url, provider.protocol),
    )


def protocol_of(base_url: str | None, protocol: str = OPENAI_PROTOCOL) -> str:
    """Return the protocol of a provider: the address `scripted:` names it, too."""
    return SCRIPTED_PROTOCOL if base_url == SCRIPTED_URL else protocol
