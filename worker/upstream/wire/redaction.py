"""Keys, owners and addresses in a foreign text, and their replacements.

An address that the caller's own request has may be shown. Pure. Not here: which texts are shown at all (disclosure.py).
"""

import re
from collections.abc import Callable
from typing import Final

from shared.model.bounds import SENTENCE_CHARS

HIDDEN: Final = "***"

# The patterns take time for each character, and only the beginning of a text is shown.
_READ_CHARS = 4 * SENTENCE_CHARS

_KEYS: Final = (
    # By a prefix, whole or masked: `sk-proj-abc`, `sk-...abcd`, `AIzaSy****`.
    re.compile(
        r"\b(?:(?:sk|pk|rk|gsk|xai|hf|nvapi|pplx|csk|tgp)[-_]|AIza|AKIA|ya29\.|eyJ)[\w.*•…/+=-]{4,}", re.IGNORECASE
    ),
    re.compile(r"\b(?:api|key|ak|r8|fw)[-_](?=[\w.-]*[\d*•…])[\w.*•…-]{6,}", re.IGNORECASE),
    re.compile(r"\b(?:bearer|basic)\s+[\w.~+/=*-]{4,}", re.IGNORECASE),
    # Masked by its writer: `abcd****wxyz`.
    re.compile(r"[\w-]*(?:\*{2,}|•{2,})[\w*•-]*"),
    re.compile(r"\b(?:[0-9a-f]{32,}|[A-Za-z0-9+_-]{40,}=*)(?!\w)"),
)
# `abcd…wxyz` is a masked key, or two words.
_SHORTENED: Final = re.compile(r"([\w-]{2,})(?:…|\.{3})([\w-]{2,})")
_OWNERS: Final = (
    re.compile(r"\b(?:(?:org|proj|acct|cus)[-_][\w-]{3,}|(?:user|team|account|project|ws)[-_](?=[\w-]*\d)[\w-]{4,})"),
    re.compile(r"\barn:[\w-]+:\S+"),
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE),
)
_LABELS: Final = r"(?:[a-z0-9-]{1,63}\.){1,9}"
_ADDRESSES: Final = (
    re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>`]+", re.IGNORECASE),
    re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"),
    re.compile(r"\[?(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{1,4}\b\]?(?::\d{1,5})?", re.IGNORECASE),
    re.compile(rf"\b(?:localhost|{_LABELS}[a-z0-9-]{{1,63}}|[a-z0-9]+-[a-z0-9-]+):\d{{2,5}}\b", re.IGNORECASE),
    re.compile(rf"\b{_LABELS}(?:internal|local|localdomain|lan|corp|svc|cluster|intra|home)\b", re.IGNORECASE),
    re.compile(rf"\b{_LABELS}(?:com|net|org|io|ai|dev|cloud|co|app|eu|cn|de)\b(?:/[^\s\"'<>`]*)?", re.IGNORECASE),
    re.compile(r"(?<![\w/.])/(?:usr|home|opt|var|etc|root|app|srv|tmp|mnt|data|workspace)/[\w./@-]+"),
)


def without_keys(text: str, secret: str | None) -> str:
    """Return the beginning of a text without keys, above all the `secret` that the provider knows us by."""
    # The secret is removed first: a cut through it would show a part.
    bare = (text.replace(secret, HIDDEN) if secret else text)[:_READ_CHARS]
    for pattern in _KEYS:
        bare = pattern.sub(HIDDEN, bare)
    return _SHORTENED.sub(lambda found: HIDDEN if _is_key(found, secret or "") else found[0], bare)


def without_private_parts(text: str, secret: str | None, is_asked: Callable[[str], bool]) -> str:
    """Return the beginning of a text without keys, owners and addresses.

    `is_asked` finds out whether the caller's request has a text.
    """

    def shown(found: re.Match[str]) -> str:
        return found[0] if is_asked(found[0].rstrip(".,;:)]}")) else HIDDEN

    bare = (text.replace(secret, HIDDEN) if secret else text)[:_READ_CHARS]
    # Addresses first: without its end, which may look like a key, an address would be another one.
    for pattern in _ADDRESSES:
        bare = pattern.sub(shown, bare)
    for pattern in _OWNERS:
        bare = pattern.sub(HIDDEN, bare)
    return without_keys(bare, secret)


def _is_key(found: re.Match[str], secret: str) -> bool:
    """Return whether a word with an ellipsis in it is a key: ours, or one that has a digit."""
    first, last = found[1], found[2]
    is_ours = bool(secret) and (secret.startswith(first) or secret.endswith(last))
    return is_ours or any(each.isdigit() for each in first + last)
