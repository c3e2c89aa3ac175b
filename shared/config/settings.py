"""The settings: the only reader of the environment and of `tailrace.toml`.

Read once by a composition root (gateway/cli.py, worker/__main__.py) and passed in. Every field has a description; the
README's table is tested against them. Not here: anything that acts on a setting.
"""

import json
import os
import re
from collections.abc import Mapping
from tomllib import TOMLDecodeError
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shared.config.environment import PREFIX, Note, find_notes, is_service_link
from shared.config.route_settings import (
    ChainItem,
    Defaults,
    ProviderSettings,
    RouteSettings,
    check_chains,
    routes_of,
    upstream_of,
)
from shared.config.secret_settings import KeyEntry, RedisUrl, hidden
from shared.model.api_keys import ApiKey
from shared.model.bounds import (
    ADDRESS_CONNECTIONS,
    BODY_BYTES,
    BODY_RATE,
    BYTES_PERCENT,
    CONNECTIONS,
    DEAD_LETTERS,
    DEPTH,
    KIB,
    LEAST_MEMORY,
    LOG_BYTES,
    MIB,
    PUMP_BYTES,
    READER_BYTES,
    RESULT_BYTES,
    RUNNING_PERCENT,
    WORKER_SLOTS,
)
from shared.model.errors import StartupError
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.lanes import parse_lanes
from shared.model.routes import ANY_MODEL, Continuation, OnStreamFailure, RouteTable, Upstream
from shared.model.tenant_bounds import TenantBounds, half_of

# Scheme, host and perhaps a port, in lower case (RFC 6454 §6.2): a path or a final slash would never match.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

UPSTREAM, SCRIPTED = "upstream", "scripted"
"""The name of the provider at `upstream_url`."""
SCRIPTED_URL = "scripted:"
"""The `upstream_url` of the provider that plays scripts instead of asking a model."""


class Settings(BaseSettings):
    """All settings, with their defaults. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        toml_file="tailrace.toml",
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    redis_url: RedisUrl | None = Field(
        None, description="Redis or Valkey (≥ 7.2, noeviction) for the queue; unset: `tailrace up` embeds one"
    )
    stream_redis_url: RedisUrl | None = Field(
        None, description="Redis or Valkey for jobs and logs; unset: the same as `redis_url`"
    )
    key_prefix: str = Field("tailrace", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of every Redis key")
    arq_prefixed: bool = Field(
        False,
        description="whether the keys of `arq` have the prefix, too; it must be the same for all processes at a prefix",
    )

    host: str = Field("127.0.0.1", description="address the gateway binds to; only loopback without API keys")
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="host names that a request may name, without ports, separated by commas; "
        "unset: any, and without API keys `localhost`, `127.0.0.1` and `[::1]`",
    )
    path_prefix: str | None = Field(
        None,
        description="the path under which a proxy shows the gateway, as in `/llm`: links and `Location` begin with it",
    )
    port: int = Field(8080, ge=0, le=65535, description="port of the gateway; 0 picks a free one")
    api_keys: Annotated[tuple[KeyEntry, ...], NoDecode] = Field(
        (),
        description="`key:tenant`, then `:admin` or `:lanes=<lane>+<lane>` or both, separated by commas; "
        "unset: one development key is made",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins whose pages may call this gateway, separated by commas, or `*` for all; unset: none but "
        "its own",
    )
    secret: SecretStr | None = Field(
        None, min_length=16, description="signs event links; unset: made once and kept in Redis"
    )

    metrics: bool = Field(True, description="whether processes count and publish; if not, `/metrics` is a 404")
    metrics_open: bool | None = Field(
        None,
        description="whether anybody may read `/metrics`; if not, an admin key is needed; "
        "unset: only where no API keys are configured",
    )
    url: str | None = Field(
        None,
        description="the gateway that `tailrace submit` and its like talk to; unset: the one at `host` and `port`",
    )
    api_key: SecretStr | None = Field(
        None,
        description="their API key; unset: the development key of a gateway on this machine",
    )

    upstream_url: str | None = Field(
        None,
        description="base URL of an OpenAI-compatible upstream, or `scripted:`; falls back to `OPENAI_BASE_URL`",
    )
    upstream_api_key: SecretStr | None = Field(
        None,
        description="its key; falls back to `OPENAI_API_KEY`",
    )
    upstream_continuation: Continuation = Field(
        Continuation.NONE,
        description="how it is asked to go on in mid-sentence: none, prefill, prefix or continue_final_message",
    )
    upstream_max_concurrency: int | None = Field(
        None, ge=1, description="calls that all workers together make to it at once; unset: as many as there are slots"
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="the model names that are served, separated by commas; unset: whatever the upstream knows",
    )
    strict_models: bool = Field(
        False,
        description="whether a model that no upstream lists and no route names is a 404 before a job is accepted; "
        "while a list can't be read, no model is",
    )
    providers: dict[str, ProviderSettings] = Field(
        {}, description="several upstreams, each a table of its own; in place of `upstream_url`"
    )
    routes: dict[str, RouteSettings] = Field(
        {}, description="which of them may answer for a model, and in which order; `*` is the route of all others"
    )

    gateways: int = Field(
        1, ge=1, le=64, description="gateway processes that `tailrace up` starts; they share the port"
    )
    workers: int = Field(1, ge=1, le=64, description="worker processes that `tailrace up` starts")
    worker_slots: int = Field(WORKER_SLOTS, ge=1, le=10_000, description="jobs that one worker process runs at once")
    lanes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("high:4", "default:2", "low:1"),
        description="`name:weight` or `name:weight:cap`, separated by commas: the lanes' shares of the slots, and how "
        "many slots of one worker process a lane may hold",
    )
    lease_s: float = Field(
        10.0, ge=0.5, le=300, description="a worker that is silent for this long loses its jobs to another"
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="attempts of a job that may fail by themselves, before it ends as failed; as many as its chain has "
        "links, where those are more",
    )
    max_crashes: int = Field(
        2,
        ge=1,
        le=1000,
        description="workers that a job may lose in a row without getting any further, before it ends as `poison_job`",
    )
    on_stream_failure: OnStreamFailure = Field(
        OnStreamFailure.CONTINUE,
        description="what is done when a stream fails after it has shown something, where neither request nor route "
        "say: continue, rollback or fail",
    )
    again_tokens: int = Field(
        100_000, ge=0, description="tokens that a job's attempts may generate again, before it ends as failed"
    )
    drain_delay_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="how long a stopping gateway still takes new work, while `/health/ready` is 503 for its proxies",
    )
    drain_s: float = Field(10.0, ge=0, le=3600, description="how long a stopping process waits for what is running")

    timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="a job's time from submit to its end, where it does not say"
    )
    max_timeout_s: float = Field(
        86_400.0, gt=0, le=LONGEST_TIMEOUT_S, description="the longest `timeout_s` a job may ask for"
    )
    first_token_timeout_s: float = Field(120.0, gt=0, description="how long a provider may take to its first token")
    gap_timeout_s: float = Field(60.0, gt=0, description="how long a provider may be silent between two tokens")
    retention_s: float = Field(86_400.0, gt=0, description="how long a job can be read after its end")
    unstored_retention_s: float = Field(
        600.0,
        gt=0,
        description="how long one of `store: false` can be: for a reader that was cut off, and while its tools run",
    )
    dead_letter_retention_s: float = Field(
        604_800.0,
        gt=0,
        description="how long one that failed is kept as a dead letter; never shorter than `retention_s`",
    )
    disconnect_grace_s: float = Field(
        5.0,
        ge=0,
        description="a job of `on_disconnect: cancel`, such as a chat completion's, ends this long after its last "
        "viewer left",
    )

    heartbeat_s: float = Field(15.0, gt=0, le=60, description="a silent stream gets a comment line this often")
    headers_hold_s: float = Field(
        15.0,
        ge=0,
        description="how long an OpenAI stream waits for its first delta before its headers go out",
    )
    redis_patience_s: float = Field(30.0, ge=0, description="readers wait this long for a lost Redis, then are broken")
    send_timeout_s: float = Field(30.0, gt=0, description="a reader that takes nothing for this long is broken")
    tail_check_s: float = Field(15.0, gt=0, description="silent streams are compared with their logs this often")

    max_body_bytes: int = Field(BODY_BYTES, ge=KIB, description="the largest request body")
    min_body_rate: int = Field(
        BODY_RATE, ge=0, description="bytes a second that a body must bring once it has taken 10 s; 0: no bound"
    )
    max_connections_per_address: int = Field(
        ADDRESS_CONNECTIONS, ge=1, description="open connections of one client address at one gateway"
    )
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1", "::1"), description="addresses without that bound, since many clients share them, by commas"
    )
    max_log_bytes: int = Field(
        LOG_BYTES,
        ge=KIB,
        description="what one execution of a job may log; beyond it the job fails as `output_too_large`",
    )
    max_result_bytes: int = Field(
        RESULT_BYTES,
        ge=KIB,
        description="what a job that does not stream may keep as its result; beyond it the job fails as "
        "`output_too_large`",
    )
    max_depth: int = Field(DEPTH, ge=1, description="jobs that may wait in one lane; beyond it 429")
    max_waiting_per_tenant: int | None = Field(
        None,
        ge=1,
        description="jobs of one tenant that may wait, in all lanes; beyond it 429; unset: half of `max_depth`, with "
        "one tenant all of it",
    )
    max_running_per_tenant: int | None = Field(
        None,
        ge=1,
        description="jobs of one tenant that run at once, over all workers; more wait, and others overtake them; "
        "unset: four fifths of all workers' slots, with one tenant all of them",
    )
    max_dead_letters: int = Field(
        DEAD_LETTERS,
        ge=1,
        description="dead letters that are kept; beyond it the tenant with most loses its oldest",
    )
    max_dead_letters_per_tenant: int | None = Field(
        None,
        ge=1,
        description="those of one tenant; beyond it its own oldest is one no longer; unset: half of `max_dead_letters`",
    )
    max_streams_per_tenant: int | None = Field(
        None,
        ge=1,
        le=CONNECTIONS,
        description="streams that one tenant may have open at one gateway; beyond it 429; unset: half of its "
        f"{CONNECTIONS} connections, with one tenant all of them",
    )
    max_bytes_per_tenant: int | None = Field(
        None,
        ge=MIB,
        description="bytes that the jobs and conversations of one tenant may keep in Redis; new jobs get 429 when a "
        "tenth of them is left; unset: half of the server's memory, with one tenant no bound",
    )
    pump_bytes: int = Field(
        PUMP_BYTES,
        ge=4 * KIB,
        description="frames of one job that may wait for Redis, before its provider has to",
    )
    reader_bytes: int = Field(
        READER_BYTES,
        ge=4 * KIB,
        description="frames that may wait for one reader, before it is sent back to the log",
    )

    max_memory: int | None = Field(
        None,
        ge=LEAST_MEMORY,
        description="bytes that the embedded Valkey may use; near it new jobs get 503; unset: half of the machine's",
    )
    data_dir: str = Field(
        ".tailrace", description="where `tailrace up` keeps the embedded Valkey's files, for its user only"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    log_format: str = Field(
        "auto", pattern="^(auto|console|json)$", description="console, json, or auto: console on a terminal"
    )

    @field_validator("api_keys", "cors_origins", "models", "lanes", "hosts", "proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_keys")
    @classmethod
    def _belong_to_one_tenant_each(cls, value: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        tenants: dict[SecretStr, str] = {}
        for key in value:
            if tenants.setdefault(key.key, key.tenant) != key.tenant:
                raise ValueError(f"one key is given to the tenants {tenants[key.key]} and {key.tenant}")
        return value

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError("each is a host name or an address without a port, as in chat.example or [::1]")
        return tuple(host.lower() for host in value)

    @field_validator("path_prefix")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if value and not _PREFIX.fullmatch(value):
            raise ValueError("it is a path that begins with / and does not end with one, as in /llm")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("each is an origin as browsers send it, as in https://chat.example:8443, or * for all")
        return value

    @field_validator("lanes")
    @classmethod
    def _fit_together(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        lanes = parse_lanes(value)
        slots = info.data.get("worker_slots", max(lane.cap or 0 for lane in lanes))
        if any(lane.cap is not None and lane.cap > slots for lane in lanes):
            raise ValueError(f"a lane's cap is at most TAILRACE_WORKER_SLOTS, which is {slots}")
        planned = {lane for key in info.data.get("api_keys", ()) for lane in key.lanes}
        if missing := planned - {lane.name for lane in lanes}:
            raise ValueError(
                f"a key in TAILRACE_API_KEYS may use {', '.join(sorted(missing))}, which must be a lane here"
            )
        return value

    @field_validator("max_waiting_per_tenant")
    @classmethod
    def _fits_into_the_lanes(cls, value: int | None, info: ValidationInfo) -> int | None:
        depth, lanes = info.data.get("max_depth"), info.data.get("lanes")
        if value is not None and depth is not None and lanes is not None and value > depth * len(lanes):
            raise ValueError(f"it is at most TAILRACE_MAX_DEPTH for each lane, which is {depth * len(lanes)} in all")
        return value

    @field_validator("max_dead_letters_per_tenant")
    @classmethod
    def _are_some_of_all(cls, value: int | None, info: ValidationInfo) -> int | None:
        total = info.data.get("max_dead_letters")
        if value is not None and total is not None and value > total:
            raise ValueError(f"it is at most TAILRACE_MAX_DEAD_LETTERS, which is {total}")
        return value

    @field_validator("providers")
    @classmethod
    def _are_instead_of_one(
        cls, value: dict[str, ProviderSettings], info: ValidationInfo
    ) -> dict[str, ProviderSettings]:
        if value and info.data.get("upstream_url") is not None:
            raise ValueError("they are in place of TAILRACE_UPSTREAM_URL; set one or the other")
        if wrong := [name for name in value if not _PROVIDER_NAME.fullmatch(name)]:
            raise ValueError(f"a provider's name is 1 to 64 letters, digits, '.', '_' or '-', as {wrong[0]!r} is not")
        return value

    @field_validator("routes")
    @classmethod
    def _lead_somewhere(cls, value: dict[str, RouteSettings], info: ValidationInfo) -> dict[str, RouteSettings]:
        providers = info.data.get("providers", {})
        if value and not providers:
            raise ValueError("they lead to providers, and TAILRACE_PROVIDERS has none")
        if value and info.data.get("models"):
            raise ValueError("they are in place of TAILRACE_MODELS; set one or the other")
        check_chains(value, providers)
        return value

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the settings with changes, which are not validated; secrets are hidden in the copy, too."""
        return super().model_copy(update=hidden(update or {}), deep=deep)

    def route_table(self) -> RouteTable:
        """All routes and their providers; neither where no upstream is configured.

        Without routes, one chain of all providers serves every model, or those that `models` names.
        """
        upstreams = self._upstreams()
        routes = self.routes
        if upstreams and not routes:
            chain = RouteSettings(chain=tuple(ChainItem(provider=name) for name in upstreams))
            routes = dict.fromkeys(self.models or (ANY_MODEL,), chain)
        return RouteTable(routes_of(routes, Defaults.model_validate(self, from_attributes=True)), upstreams)

    def _upstreams(self) -> dict[str, Upstream]:
        if self.providers or self.upstream_url is None:
            return {name: upstream_of(name, each) for name, each in self.providers.items()}
        name = SCRIPTED if self.upstream_url == SCRIPTED_URL else UPSTREAM
        key, limit = self.upstream_api_key, self.upstream_max_concurrency
        return {name: Upstream(name, self.upstream_url, key, self.upstream_continuation, limit)}

    @property
    def tenant_bounds(self) -> TenantBounds:
        """How much one tenant may hold: what is set, else a share if there are several tenants."""
        alone = len({key.tenant for key in self.api_keys}) <= 1
        return TenantBounds(
            waiting=self.max_waiting_per_tenant or (self.max_depth if alone else half_of(self.max_depth)),
            running=self.max_running_per_tenant,
            running_percent=None if alone else RUNNING_PERCENT,
            dead_letters=self.max_dead_letters_per_tenant or half_of(self.max_dead_letters),
            bytes=self.max_bytes_per_tenant,
            bytes_percent=None if alone else BYTES_PERCENT,
            streams=self.max_streams_per_tenant or (CONNECTIONS if alone else half_of(CONNECTIONS)),
        )

    @property
    def served_models(self) -> tuple[str, ...]:
        """The models that are served and no others; empty where any name may do."""
        if not self.routes:
            return self.models
        return () if ANY_MODEL in self.routes else tuple(self.routes)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Code wins over the environment, that over `tailrace.toml`, and that over what was set for OpenAI's client."""
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, _Environment(settings_cls), toml, _OpenAISource(settings_cls)


class _Environment(EnvSettingsSource):
    """The environment, without what only looks like a setting."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = super()._load_env_vars()
        return {name: value for name, value in variables.items() if not is_service_link(name, value or "")}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read JSON.

        Raises:
            StartupError: it is none. The sentence says where, and not what: it may be a secret.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except json.JSONDecodeError as error:
            raise StartupError(
                f"{PREFIX}{field_name.upper()} is not valid JSON: {error.msg}, at character {error.pos + 1}."
            ) from None


class _OpenAISource(PydanticBaseSettingsSource):
    """The environment of OpenAI's own client, where Tailrace was told nothing."""

    _NAMES: ClassVar[dict[str, str]] = {"upstream_url": "OPENAI_BASE_URL", "upstream_api_key": "OPENAI_API_KEY"}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One field's value, its name, and that it is no JSON."""
        return os.environ.get(self._NAMES.get(field_name, "")), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values that are there, unless other providers are named."""
        if self.current_state.get("providers"):
            return {}
        return {field: os.environ[name] for field, name in self._NAMES.items() if os.environ.get(name)}


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `tailrace.toml`.

    Raises:
        StartupError: a value is wrong; the sentence names the setting, never its value (it may be a secret).
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = "; ".join(f"{_shown(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
        raise StartupError(f"These settings are wrong: {wrong}.") from None
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"tailrace.toml is not valid TOML{_place(error)}.") from None
    except OSError as error:
        raise StartupError(f"tailrace.toml can't be read: {error.strerror}.") from None


def environment_notes() -> tuple[Note, ...]:
    """List the environment's variables that look like settings and are not read, for the log."""
    return tuple(find_notes(os.environ, Settings.model_fields))


def _place(error: ValueError) -> str:
    """Where the reading of a file ended; why may be told by a part of a secret."""
    found = re.search(r"\((at .*)\)$", str(error))
    return f", {found[1]}" if found else ": it is not UTF-8"


def _shown(location: tuple[int | str, ...]) -> str:
    """Where a value stands: `TAILRACE_ROUTES.gpt-4o.chain[1].model`."""
    name, *rest = location or ("settings",)
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    return (str(name) if str(name).isupper() else f"TAILRACE_{str(name).upper()}") + inside


def colour_is_wanted() -> bool:
    """Whether a program may write in colour where it can: NO_COLOR is not set (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def terminal_is_dumb() -> bool:
    """Whether the terminal, if there is one, knows no escape sequences (terminfo's `dumb`)."""
    return os.environ.get("TERM", "dumb") == "dumb"
