"""The settings of addresses and keys: the Redis servers, the gateway's own address, and the callers it accepts.

Pure. Not here: reading the environment (settings.py), and the rights of a key (gateway/model/auth.py).
"""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.config.comma_lists import CommaSeparated, split_by_commas
from shared.config.secret_settings import KeyEntry, RedisUrl
from shared.model.api_keys import ApiKey
from shared.model.webhooks.target import AllowedTargets

# Scheme, host and perhaps a port, in lower case (RFC 6454 §6.2): a path or a final slash would never match.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


class AccessSettings(BaseModel):
    """Addresses and keys, and whether metrics are published."""

    redis_url: RedisUrl | None = Field(
        None, description="Redis or Valkey (≥ 7.2, noeviction) for the queue; unset: `tailrace up` embeds one"
    )
    stream_redis_url: RedisUrl | None = Field(
        None, description="Redis or Valkey for jobs and logs; unset: the same as `redis_url`"
    )
    key_prefix: str = Field("tailrace", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of every Redis key")
    arq_prefixed: bool = Field(
        False,
        description="whether arq's keys have the prefix too; all processes with one prefix must agree",
    )

    host: str = Field(
        "127.0.0.1", description="address that the gateway binds to; without API keys only a loopback address"
    )
    hosts: CommaSeparated = Field(
        (),
        description=(
            "host names that a request may name, without ports, separated by commas; unset: any, and without API "
            "keys `localhost`, `127.0.0.1` and `[::1]`"
        ),
    )
    path_prefix: str | None = Field(
        None,
        description="the path under which a proxy shows the gateway, as in `/llm`: links and `Location` begin with it",
    )
    port: int = Field(8080, ge=0, le=65535, description="port of the gateway; 0 picks a free one")
    api_keys: Annotated[tuple[KeyEntry, ...], NoDecode, BeforeValidator(split_by_commas)] = Field(
        (),
        description=(
            "`key:tenant`, then `:admin` or `:lanes=<lane>+<lane>` or both, separated by commas; unset: one "
            "development key is created"
        ),
    )
    cors_origins: CommaSeparated = Field(
        (),
        description=(
            "origins whose pages may call this gateway, separated by commas, or `*` for all; unset: only its own"
        ),
    )
    secret: SecretStr | None = Field(
        None, min_length=16, description="key that signs event links; unset: one is created and stored in Redis"
    )

    webhook_allow: CommaSeparated = Field(
        (),
        description=(
            "hosts, addresses and networks that webhooks may call although they are not public, separated by commas, "
            "as in 127.0.0.0/8"
        ),
    )
    metrics: bool = Field(
        True, description="whether processes collect and publish metrics; if not, `/metrics` returns 404"
    )
    metrics_open: bool | None = Field(
        None,
        description=(
            "whether `/metrics` can be read without a key; if not, an admin key is needed; unset: only if no API "
            "keys are configured"
        ),
    )
    url: str | None = Field(
        None,
        description=(
            "the gateway that `tailrace submit`, `tail`, `cancel`, `jobs` and `dead-letters` call; unset: the one"
            " at `host` and `port`"
        ),
    )
    api_key: SecretStr | None = Field(
        None,
        description="the API key of these commands; unset: the development key of a gateway on this machine",
    )

    @field_validator("api_keys")
    @classmethod
    def _belong_to_one_tenant_each(cls, value: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        tenants: dict[SecretStr, str] = {}
        for key in value:
            if tenants.setdefault(key.key, key.tenant) != key.tenant:
                raise ValueError(
                    f"a key must belong to one tenant; one is given to the tenants {tenants[key.key]} and {key.tenant}"
                )
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _are_targets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        AllowedTargets.of(value)
        return value

    @property
    def webhook_targets(self) -> AllowedTargets:
        """Return the targets of webhooks that are allowed beside the public ones."""
        return AllowedTargets.of(self.webhook_allow)

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError("each must be a host name or an address without a port, as in chat.example or [::1]")
        return tuple(host.lower() for host in value)

    @field_validator("path_prefix")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if value and not _PREFIX.fullmatch(value):
            raise ValueError("it must be a path that begins with / and does not end with one, as in /llm")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    "each must be an origin as browsers send it, as in https://chat.example:8443, or * for all"
                )
        return value
