"""An upstream's usage: its counts of tokens, and its further fields as far as they are small.

Pure. Not here: estimates, and the dialects that show a usage.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from shared.model.bounds import USAGE_BYTES, USAGE_FIELDS
from shared.model.events import encode_data
from shared.model.jobs import Usage
from worker.upstream.wire.plain_values import plain

# No provider counts further, and every reader of JSON takes so many without losing a digit.
_MOST_TOKENS: Final = 2**53
_COUNTS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "source"})


def read_usage(usage: Mapping[str, Any]) -> Usage | None:
    """Read the `usage` of a chunk (OpenAI API reference, chat/object); None if it has no counts.

    Some upstreams use the names of Responses. Further fields (`cost`, details, cache counts) are kept up to
    `USAGE_BYTES` each.
    """
    prompt, completion = (
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
    )
    if prompt is None or completion is None:
        return None
    further = {name: plain(value) for name, value in usage.items() if name not in _COUNTS and value is not None}
    kept = [(name, value) for name, value in further.items() if len(encode_data({name: value})) <= USAGE_BYTES]
    return Usage(prompt, completion, "provider", dict(kept[:USAGE_FIELDS]))


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if _is_count(usage.get(name))), None)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
