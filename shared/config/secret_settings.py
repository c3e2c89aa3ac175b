"""The types of settings that hold a secret: none shows it in a repr or in an error.

Pure. Not here: the settings of these types (settings.py), and connecting to an address.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, InstanceOf, SecretStr

from shared.model.api_keys import ApiKey, parse_api_key

_DATABASE: Final = re.compile(r"(/[0-9]*)?")
_SCHEMES: Final = ("redis", "rediss", "unix")


def _checked_address(url: SecretStr) -> SecretStr:
    """Refuse an address that redis-py would misread, or quote in an error."""
    parts = _split(url.get_secret_value())
    if parts is None or parts.scheme not in _SCHEMES:
        raise ValueError("it must start with redis://, rediss:// or unix://, as in redis://127.0.0.1:6379/0")
    # A password with /, # or ? in it ends its address too early: the rest would be a port, a path or an option.
    torn = not _DATABASE.fullmatch(parts.path) or "@" in parts.query
    if parts.fragment or (torn and parts.scheme != "unix"):
        raise ValueError(
            "it must end with the number of a database, as in redis://127.0.0.1:6379/0; write /, # and ? of a password "
            "as %2F, %23 and %3F"
        )
    return url


def _split(url: str) -> SplitResult | None:
    """Split an address into its parts; None if its port is not a number."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _as_api_key(value: Any) -> Any:
    """Parse an entry; leave any value that is not a text to the type's own check."""
    return parse_api_key(value) if isinstance(value, str) else value


RedisUrl = Annotated[SecretStr, AfterValidator(_checked_address)]
"""The address of a Redis, with its password."""

KeyEntry = Annotated[InstanceOf[ApiKey], BeforeValidator(_as_api_key)]
"""An API key, written as `key:tenant` and so on (shared/model/api_keys.py)."""

_SECRETS: Final = frozenset({"redis_url", "stream_redis_url", "secret", "api_key", "upstream_api_key"})


def hidden(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes of settings with their secrets hidden, also those that are given as plain text."""
    return {name: _hidden(name, value) for name, value in changes.items()}


def _hidden(name: str, value: Any) -> Any:
    if name in _SECRETS and isinstance(value, str):
        return SecretStr(value)
    return tuple(map(_as_api_key, value)) if name == "api_keys" else value
