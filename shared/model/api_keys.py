"""Parse configured API keys: the tenant of each key, and the rights and lanes of its plan.

An entry is `key:tenant`, then `:admin` or `:lanes=<lane>+<lane>` or both.
Pure. Not here: the check of a request's key (gateway/model/auth.py).
"""

import re
from dataclasses import dataclass

from pydantic import SecretStr

_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LANES = "lanes="


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry. `lanes` are those that the key may use (empty: all), `default` its preferred one or else the first."""

    key: SecretStr
    tenant: str
    admin: bool = False
    lanes: tuple[str, ...] = ()


def parse_api_key(entry: str) -> ApiKey:
    """Parse an entry.

    Raises:
        ValueError: the sentence names the correct form; it repeats no part of the entry, which may be a secret.
    """
    key, _, rest = entry.partition(":")
    tenant, *options = rest.split(":")
    plans = [option.removeprefix(_LANES).split("+") for option in options if option.startswith(_LANES)]
    lanes = plans[0] if plans else []
    known = options.count("admin") + len(plans) == len(options)
    if not key or not _TENANT.fullmatch(tenant) or not known or len(plans) > 1 or "" in lanes:
        raise ValueError(
            "each entry must be key:tenant, then :admin or :lanes=<lane>+<lane> or both; a tenant may have only "
            "A-Z a-z 0-9 _ . -"
        )
    return ApiKey(SecretStr(key), tenant, "admin" in options, tuple(lanes))
