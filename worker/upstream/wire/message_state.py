"""The state of earlier answers in a chat's messages: thoughts, and the further fields of calls.

One upstream demands them, and another refuses them. Pure. Not here: when they are left out (transport_fields.py).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

THOUGHTS: Final = "reasoning_content"
_CALL = frozenset({"index", "id", "type", "function", "custom"})


def has_thoughts(messages: object) -> bool:
    """Return whether an answer has thoughts; in other messages, the field is the caller's own."""
    return any(_is_thoughtful(message) for message in _objects(messages))


def call_fields(messages: object) -> frozenset[str]:
    """Find the names of further fields of calls."""
    return frozenset(
        name for message in _objects(messages) for call in _objects(message.get("tool_calls")) for name in call
    ).difference(_CALL)


def without_thoughts(message: Any) -> Any:
    """Leave an answer's thoughts out."""
    if isinstance(message, dict) and _is_thoughtful(message):
        return {name: value for name, value in message.items() if name != THOUGHTS}
    return message


def without_call_fields(message: Any) -> Any:
    """Leave the further fields of a message's calls out."""
    if isinstance(message, dict) and isinstance(calls := message.get("tool_calls"), list):
        return {**message, "tool_calls": [_bare(call) for call in calls]}
    return message


def _is_thoughtful(message: Mapping[str, Any]) -> bool:
    return THOUGHTS in message and message.get("role") == "assistant"


def _bare(call: Any) -> Any:
    return {name: value for name, value in call.items() if name in _CALL} if isinstance(call, dict) else call


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()
