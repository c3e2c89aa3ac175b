"""The settings of upstreams: one at `upstream_url`, or several providers and the routes to them.

Pure. Not here: the tables of a provider and of a route (route_settings.py), and the route table itself (settings.py).
"""

import re

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from shared.config.comma_lists import CommaSeparated
from shared.config.route_settings import (
    SCRIPTED_URL,
    ProviderSettings,
    RouteSettings,
    check_chains,
    protocol_of,
    upstream_of,
)
from shared.model.routes import ANY_MODEL, Continuation, RequestRules, Upstream

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

UPSTREAM, SCRIPTED = "upstream", "scripted"
"""The name of the provider at `upstream_url`."""


class UpstreamSettings(BaseModel):
    """The upstreams and the models that they serve."""

    upstream_url: str | None = Field(
        None,
        description="base URL of an OpenAI-compatible upstream, or `scripted:`; falls back to `OPENAI_BASE_URL`",
    )
    upstream_api_key: SecretStr | None = Field(
        None,
        description="the upstream's API key; falls back to `OPENAI_API_KEY`",
    )
    upstream_continuation: Continuation = Field(
        Continuation.NONE,
        description=(
            "how the upstream is asked to continue in mid-sentence: none, prefill, prefix or continue_final_message"
        ),
    )
    upstream_max_concurrency: int | None = Field(
        None,
        ge=1,
        description="concurrent calls to the upstream, of all workers together; unset: as many as there are slots",
    )
    models: CommaSeparated = Field(
        (),
        description="the model names that are served, separated by commas; unset: all that the upstream lists",
    )
    strict_models: bool = Field(
        False,
        description=(
            "whether a model that no upstream lists and no route names returns 404; while a list can't be read, "
            "every model is accepted"
        ),
    )
    providers: dict[str, ProviderSettings] = Field(
        {}, description="several upstreams, each with a table of its own; replaces `upstream_url`"
    )
    routes: dict[str, RouteSettings] = Field(
        {},
        description=(
            "the providers of each model, in the order in which they are tried; `*` is the route of all other models"
        ),
    )

    @field_validator("providers")
    @classmethod
    def _are_instead_of_one(
        cls, value: dict[str, ProviderSettings], info: ValidationInfo
    ) -> dict[str, ProviderSettings]:
        if value and info.data.get("upstream_url") is not None:
            raise ValueError("they replace TAILRACE_UPSTREAM_URL; set one or the other")
        if wrong := [name for name in value if not _PROVIDER_NAME.fullmatch(name)]:
            raise ValueError(
                f"a provider's name must be 1 to 64 letters, digits, '.', '_' or '-', as {wrong[0]!r} is not"
            )
        return value

    @field_validator("routes")
    @classmethod
    def _lead_somewhere(cls, value: dict[str, RouteSettings], info: ValidationInfo) -> dict[str, RouteSettings]:
        providers = info.data.get("providers", {})
        if value and not providers:
            raise ValueError("they name providers, but TAILRACE_PROVIDERS is not set")
        if value and info.data.get("models"):
            raise ValueError("they replace TAILRACE_MODELS; set one or the other")
        check_chains(value, providers)
        return value

    def upstreams(self) -> dict[str, Upstream]:
        """Return all upstreams by name: those of `providers`, or the one at `upstream_url`."""
        if self.providers or self.upstream_url is None:
            return {name: upstream_of(name, each) for name, each in self.providers.items()}
        name = SCRIPTED if self.upstream_url == SCRIPTED_URL else UPSTREAM
        key, limit = self.upstream_api_key, self.upstream_max_concurrency
        protocol = protocol_of(self.upstream_url)
        upstream = Upstream(name, self.upstream_url, key, self.upstream_continuation, limit, RequestRules(), protocol)
        return {name: upstream}

    @property
    def served_models(self) -> tuple[str, ...]:
        """Return the only models that are served; empty if any name may be."""
        if not self.routes:
            return self.models
        return () if ANY_MODEL in self.routes else tuple(self.routes)
