"""Remove secrets from the fields of log events, and make their texts fit for a line.

A second line of defence: no module should log secrets in the first place. Pure. Not here: the form of a line
(shared/telemetry/log_lines.py).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from shared.model.text import each_text

_SECRETS = (
    (re.compile(r"([?&#](?:token|key)=)[^&\s\"'\\]+"), r"\1***"),
    (re.compile(r"(\bbearer\s+)[^\s\"',\\]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\bsk-[\w-]{4,}"), "sk-***"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
)


def redact(text: str) -> str:
    """Remove event link tokens, API keys, bearer keys and the passwords of URLs from a text."""
    # Each of the patterns needs one of these; to look for them first is a fifth of the cost.
    if not ("=" in text or "@" in text or "sk-" in text or "bearer" in text.lower()):
        return text
    for secret, replacement in _SECRETS:
        text = secret.sub(replacement, text)
    return text


def redact_fields(event: Mapping[str, Any], write: Callable[[str], str]) -> dict[str, Any]:
    """Return the fields of an event without secrets, each of their texts as `write` returns it, names included.

    Values that JSON has no form for become texts.
    """

    def change(text: str) -> str:
        return write(redact(text))

    fields: dict[str, Any] = {}
    for name, value in event.items():
        kind = type(value)
        if kind is str:
            shown: Any = value if _is_plain(value) else change(value)
        elif value is None or kind is int or kind is bool or (kind is float and math.isfinite(value)):
            shown = value
        else:
            shown = each_text(value, change)
        fields[name if _is_plain(name) else change(name)] = shown
    return fields


def _is_plain(text: str) -> bool:
    """Return whether a text is of ASCII letters, digits and `_` only: no secret has this form, and no escape is needed.

    A job's id is, and most names are.
    """
    return text.isascii() and text.isidentifier()
