"""Read the finish reasons and the usage of a `completed` event, as OpenAI's completion dialects show them. Pure.

Not here: bad ends (gateway/dialects/errors.py).
"""

from collections.abc import Collection, Mapping
from typing import Any

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_PROVIDER = "provider"


def finish_reasons(outcome: Mapping[str, Any], seen: Collection[int]) -> dict[int, str]:
    """Return the finish reason of each choice that the outcome names or that was seen, by index."""
    overall = outcome.get("finish_reason") or "stop"
    named = dict(enumerate(outcome.get("finish_reasons") or [overall]))
    return {index: named.get(index) or overall for index in sorted(named.keys() | set(seen))}


def usage_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's counts, then the upstream's further fields.

    `source` is shown only if the provider did not count: it labels an estimate.
    """
    usage = outcome.get("usage") or {}
    counts = {name: usage.get(name, 0) for name in _COUNTS}
    further = {name: value for name, value in usage.items() if name not in counts and value is not None}
    if further.get("source") == _PROVIDER:
        del further["source"]
    return counts | further
