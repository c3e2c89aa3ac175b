"""The settings: the only reader of the environment and of `tailrace.toml`.

They are read once by a composition root (gateway/cli.py, worker/__main__.py) and passed in. Every field has a
description; the table in shared/README.md is tested against them.
Not here: the code that acts on a setting.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from tomllib import TOMLDecodeError
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shared.config.access_settings import AccessSettings
from shared.config.bound_settings import BoundSettings
from shared.config.environment import PREFIX, Note, find_notes, is_service_link
from shared.config.renamed_settings import explain_renamed
from shared.config.route_settings import (
    Defaults,
    RouteSettings,
    RouteTargetSettings,
    routes_of,
)
from shared.config.secret_settings import hidden
from shared.config.upstream_settings import UpstreamSettings
from shared.config.work_settings import WorkSettings
from shared.model.bounds import (
    BYTES_PERCENT,
    CONNECTIONS,
    LEAST_MEMORY,
    RUNNING_PERCENT,
)
from shared.model.errors import StartupError
from shared.model.routes import ANY_MODEL, RouteTable
from shared.model.tenant_bounds import TenantBounds, half_of


class Settings(BoundSettings, WorkSettings, UpstreamSettings, AccessSettings, BaseSettings):
    """All settings, with their defaults. Durations are seconds, sizes bytes.

    The last base's fields come first: a check of a field sees those before it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        toml_file="tailrace.toml",
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    max_memory: int | None = Field(
        None,
        ge=LEAST_MEMORY,
        description="bytes that the embedded Valkey may use; near it new jobs get 503; unset: half of the machine's",
    )
    data_dir: str = Field(
        ".tailrace", description="directory of the embedded Valkey's files, which only its user can read"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    log_format: str = Field(
        "auto", pattern="^(auto|console|json)$", description="console, json, or auto: console on a terminal"
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the settings with changes, which are not validated; secrets are hidden in the copy, too."""
        return super().model_copy(update=hidden(update or {}), deep=deep)

    def route_table(self) -> RouteTable:
        """Return all routes and their providers; both are empty if no upstream is configured.

        Without routes, one chain of all providers serves every model, or those that `models` names.
        """
        upstreams = self.upstreams()
        routes = self.routes
        if upstreams and not routes:
            chain = RouteSettings(chain=tuple(RouteTargetSettings(provider=name) for name in upstreams))
            routes = dict.fromkeys(self.models or (ANY_MODEL,), chain)
        return RouteTable(routes_of(routes, Defaults.model_validate(self, from_attributes=True)), upstreams)

    @property
    def tenant_bounds(self) -> TenantBounds:
        """Return the bounds of one tenant: those that are set, else a share if there are several tenants."""
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: code, the environment, `tailrace.toml`, OpenAI's own client."""
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, _Environment(settings_cls), toml, _OpenAISource(settings_cls)


class _Environment(EnvSettingsSource):
    """The environment, without variables that only look like settings."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = super()._load_env_vars()
        return {name: value for name, value in variables.items() if not is_service_link(name, value or "")}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read JSON.

        Raises:
            StartupError: it is not JSON. The sentence names the place, not the value, which may be a secret.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except json.JSONDecodeError as error:
            raise StartupError(
                f"{PREFIX}{field_name.upper()} is not valid JSON: {error.msg}, at character {error.pos + 1}."
            ) from None


class _OpenAISource(PydanticBaseSettingsSource):
    """The environment of OpenAI's own client, for settings without a value for Tailrace."""

    _NAMES: ClassVar[dict[str, str]] = {"upstream_url": "OPENAI_BASE_URL", "upstream_api_key": "OPENAI_API_KEY"}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of one field, its name, and False because the value is not JSON."""
        return os.environ.get(self._NAMES[field_name]), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values that are set, unless other providers are named."""
        if self.current_state.get("providers"):
            return {}
        fields = self.settings_cls.model_fields
        values = {name: self.get_field_value(fields[name], name)[0] for name in self._NAMES}
        return {name: value for name, value in values.items() if value}


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `tailrace.toml`.

    Raises:
        StartupError: a value is wrong, or a setting has another name now; the sentence names the setting, never its
            value (it may be a secret).
    """
    _refuse_renamed(name for name, value in os.environ.items() if value and name.upper().startswith(PREFIX))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        details = error.errors(include_input=False)
        _refuse_renamed(str(e["loc"][0]) for e in details if e["type"] == "extra_forbidden" and len(e["loc"]) == 1)
        wrong = "; ".join(f"{_shown(e['loc'])}: {e['msg']}" for e in details)
        raise StartupError(f"These settings are wrong: {wrong}.") from None
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"tailrace.toml is not valid TOML{_place(error)}.") from None
    except OSError as error:
        raise StartupError(f"tailrace.toml can't be read: {error.strerror}.") from None


def _refuse_renamed(names: Iterable[str]) -> None:
    if sentence := explain_renamed(names):
        raise StartupError(sentence)


def environment_notes() -> tuple[Note, ...]:
    """List the environment's variables that look like settings and are not read, for the log."""
    return tuple(find_notes(os.environ, Settings.model_fields))


def _place(error: ValueError) -> str:
    """Return the place at which parsing ended. The reason may quote a part of a secret."""
    found = re.search(r"\((at .*)\)$", str(error))
    return f", {found[1]}" if found else ": it is not UTF-8"


def _shown(location: tuple[int | str, ...]) -> str:
    """Return the place of a value: `TAILRACE_ROUTES.gpt-4o.chain[1].model`."""
    name, *rest = location or ("settings",)
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    return (str(name) if str(name).isupper() else f"TAILRACE_{str(name).upper()}") + inside


def colour_is_wanted() -> bool:
    """Return whether a program may write in colour if it can: NO_COLOR is not set (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def terminal_is_dumb() -> bool:
    """Return whether the terminal, if there is one, supports no escape sequences (terminfo's `dumb`)."""
    return os.environ.get("TERM", "dumb") == "dumb"
