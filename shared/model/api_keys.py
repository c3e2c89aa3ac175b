"""API keys as they are configured: whose each one is, and what its plan allows.

An entry is `key:tenant`, then `:admin` or `:lanes=<lane>+<lane>` or both. Above: settings.py checks the entries, the
gateway's auth.py keeps them. Pure. Not here: who presents a key.
"""

import re
from dataclasses import dataclass

from pydantic import SecretStr

_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LANES = "lanes="


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry. `lanes` are those that the key may use, `default` its preferred one or else the first; empty: all."""

    key: SecretStr
    tenant: str
    admin: bool = False
    lanes: tuple[str, ...] = ()


def parse_api_key(entry: str) -> ApiKey:
    """Read an entry.

    Raises:
        ValueError: the sentence says what would be right; it repeats nothing of what may be a secret.
    """
    key, _, rest = entry.partition(":")
    tenant, *options = rest.split(":")
    plans = [option.removeprefix(_LANES).split("+") for option in options if option.startswith(_LANES)]
    lanes = plans[0] if plans else []
    known = options.count("admin") + len(plans) == len(options)
    if not key or not _TENANT.fullmatch(tenant) or not known or len(plans) > 1 or "" in lanes:
        raise ValueError(
            "each entry is key:tenant, then :admin or :lanes=<lane>+<lane> or both; a tenant has only A-Z a-z 0-9 _ . -"
        )
    return ApiKey(SecretStr(key), tenant, "admin" in options, tuple(lanes))
