"""Find Tailrace's own fields in a body, and names that are nearly one of theirs.

Upstreams ignore or refuse a field that they do not know, so a misspelled option would be lost silently. A name is near
if it differs in case, separators, a unit of time or a slip of the pen. Pure; all checks raise InvalidRequest. Not here:
the values of the fields (validation.py), and the fields of upstreams.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from gateway.dialects.chat_parameters import CHAT_FIELDS
from gateway.specs.request_options import ABANDON_HEADER, DISCONNECT_HEADER, LANE_HEADER, STREAM_FAILURE_HEADER
from shared.model.errors import InvalidRequest

OWN_FIELDS = (
    "kind",
    "lane",
    "timeout_s",
    "metadata",
    "on_disconnect",
    "abandon_after_s",
    "on_stream_failure",
    "webhook",
    "after",
    "on_parent_failure",
)
"""The fields of `POST /v1/jobs` that are Tailrace's own."""

_KEY = "idempotency_key"
_KEY_HEADER = "Idempotency-Key"
# The header for an own field, in a dialect with a foreign body.
_HEADERS = {
    "lane": LANE_HEADER,
    "on_disconnect": DISCONNECT_HEADER,
    "abandon_after_s": ABANDON_HEADER,
    "on_stream_failure": STREAM_FAILURE_HEADER,
    _KEY: _KEY_HEADER,
}
_NATIVE = (*OWN_FIELDS, _KEY)
# OpenAI's dialects have `metadata` of their own.
_FOREIGN = tuple(name for name in _NATIVE if name != "metadata")
# LiteLLM's proxy reads `timeout` from a chat's body.
_FOREIGN_KNOWN = frozenset({"timeout"})

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_UNITS = frozenset(
    {
        *("s", "sec", "secs", "second", "seconds", "ms", "msec", "millis", "millisecond", "milliseconds"),
        *("min", "mins", "minute", "minutes", "h", "hour", "hours", "in"),
    }
)
_PREFIXES = frozenset({"x", "tailrace"})
# A body's size is the only bound on its number of names, and a comparison costs some microseconds.
_COMPARED = 100
_LONGEST = 40
# From so many letters on, a name may have two slips, and a wrong letter counts as one.
_LONG = 8


def check_native(body: Mapping[str, Any]) -> None:
    """Refuse near misses of the fields of `POST /v1/jobs`; the error names the right field."""
    for name, meant in _meant(body, _NATIVE):
        if meant == _KEY:
            raise InvalidRequest(f"{name} must be sent as the header {_KEY_HEADER}.", param=name)
        if meant != name:
            raise InvalidRequest(f"{name} is not a field of a job; use {meant}.", param=name)


def check_foreign(body: Mapping[str, Any]) -> None:
    """Refuse Tailrace's own fields and their near misses in a body of OpenAI's; the error names the header."""
    for name, meant in _meant(body, _FOREIGN):
        if name in _FOREIGN_KNOWN:
            continue
        if meant in _HEADERS:
            raise InvalidRequest(f"{name} must be sent as the header {_HEADERS[meant]}.", param=name)
        raise InvalidRequest(f"{name} belongs to POST /v1/jobs; leave it out here.", param=name)


def _meant(body: Mapping[str, Any], own: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Find the names of a body that are or nearly are own ones, each with the meant one. Null counts as absent."""
    for name in (*own, *islice(body, _COMPARED)):
        if name not in CHAT_FIELDS and body.get(name) is not None and (meant := nearest(name, own)) is not None:
            yield name, meant


def nearest(name: str, own: Sequence[str]) -> str | None:
    """Return the one of these own fields that a name is or nearly is, or None."""
    if len(name) > _LONGEST:
        return None
    written = _letters(name)
    return next((each for each in own if _is_near(written, _LETTERS[each])), None)


def _letters(name: str) -> str:
    """Return the name's letters, without case and separators, Tailrace's prefix and a unit of time."""
    words = [word.lower() for word in _WORDS.findall(name)]
    while len(words) > 1 and words[0] in _PREFIXES:
        words.pop(0)
    while len(words) > 1 and words[-1] in _UNITS:
        words.pop()
    return "".join(words)


_LETTERS = {name: _letters(name) for name in _NATIVE}


def _is_near(written: str, own: str) -> bool:
    if len(own) >= _LONG:
        bare = own.removeprefix("on")
        return _is_within(2, written, own) or (bare != own and _is_within(1, written, bare))
    if not _is_within(1, written, own):
        return False
    # One wrong letter makes another word of a short one (lane, lang), and so does another first letter (plane).
    is_swapped = sorted(written) == sorted(own)
    return is_swapped or (len(written) != len(own) and written[:1] == own[0])


def _is_within(slips: int, written: str, own: str) -> bool:
    """Return whether at most `slips` letters were left out, added, replaced or swapped with the next one."""
    # A slip changes two letters at most, so that most names need no comparison, which costs a hundred times as much.
    if abs(len(written) - len(own)) > slips or len({*written} ^ {*own}) > 2 * slips:
        return False
    return _slips(written, own) <= slips


def _slips(written: str, own: str) -> int:
    """Count the slips between two names."""
    # Optimal string alignment: a row for each letter written, a column for each letter of the own name.
    rows = [list(range(len(own) + 1))]
    for i, letter in enumerate(written, 1):
        row = [i]
        for j, other in enumerate(own, 1):
            least = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and (letter, written[i - 2]) == (own[j - 2], other):
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]
