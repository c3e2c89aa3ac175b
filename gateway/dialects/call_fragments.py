"""Read the fragments of tool calls in a delta, in the one form that the worker writes. Pure.

Not here: repairs of other forms, which the worker's reader makes before it writes a delta.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_OWN = frozenset({"index", "id", "type", "function", "custom"})
_OWN_OF_TYPE = {"function": frozenset({"name", "arguments"}), "custom": frozenset({"name", "input"})}
_TEXT_FIELDS = {"function": "arguments", "custom": "input"}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class CallFragment(NamedTuple):
    """A piece of a tool call. The first piece of each call has its `id` and `name`; later pieces have neither.
    Calls are numbered from 0, in the order in which they began.

    `text` is a piece of a function's arguments or of a `custom` tool's input. `extra` has the further fields of the
    upstream's call; those of its `function` or `custom` object are under that name.
    """

    number: int
    id: str = ""
    name: str = ""
    custom: bool = False
    text: str = ""
    extra: Mapping[str, Any] = _NOTHING


def call_fragments(delta: Mapping[str, Any]) -> Iterator[CallFragment]:
    """Read the fragments of a delta. Other forms are skipped: a log of an earlier version may have some."""
    calls = delta.get("tool_calls")
    for fragment in calls if isinstance(calls, list) else ():
        if isinstance(fragment, dict) and (found := _fragment(fragment)) is not None:
            yield found


def add_extra(known: dict[str, Any], fragment: CallFragment) -> None:
    """Add a fragment's further fields to those of its call; the last value of a repeated field counts."""
    for name, value in fragment.extra.items():
        inner = name in _TEXT_FIELDS
        known[name] = {**known.get(name, {}), **value} if inner else value


def _fragment(fragment: Mapping[str, Any]) -> CallFragment | None:
    number = fragment.get("index")
    call_type = "custom" if "custom" in fragment else "function"
    body = fragment.get(call_type) or {}
    if not isinstance(number, int) or not isinstance(body, dict):
        return None
    text = body.get(_TEXT_FIELDS[call_type]) or ""
    if not isinstance(text, str):
        return None  # an earlier version's log; without its arguments a tool must not run
    return CallFragment(
        number,
        _word(fragment.get("id")),
        _word(body.get("name")),
        call_type == "custom",
        text,
        _extra(fragment, body, call_type),
    )


def _extra(fragment: Mapping[str, Any], body: Mapping[str, Any], call_type: str) -> Mapping[str, Any]:
    own = _OWN_OF_TYPE[call_type]
    if _OWN.issuperset(fragment) and own.issuperset(body):
        return _NOTHING
    extra = {name: value for name, value in fragment.items() if name not in _OWN}
    inner = {name: value for name, value in body.items() if name not in own}
    return extra | {call_type: inner} if inner else extra


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
