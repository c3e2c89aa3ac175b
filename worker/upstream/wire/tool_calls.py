"""The tool calls of one choice: an upstream's fragments in, canonical fragments out.

Upstreams disagree about fragments: an index for all calls, no index, an id on each fragment or on none, the name late,
arguments as an object. From here on there is one form:

    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "now", "arguments": ""}}     first, once
    {"index": 0, "function": {"arguments": "{}"}}                                                       then

A custom tool has `custom` with `name` and `input` instead. Further fields stay on their fragment. Pure.
Not here: the meaning of a call's arguments.
"""

import json
from collections.abc import Callable
from typing import Any

from shared.model.bounds import EVENT_BYTES, TOOL_CALLS
from shared.model.errors import ProviderGarbage
from shared.model.events import encode_data
from shared.model.text import whole
from worker.upstream.wire.plain_values import plain
from worker.upstream.wire.texts import TextReader

_OWN = frozenset({"index", "id", "type", "function", "custom"})
_FLAT = frozenset({"name", "arguments", "input"})
_LEGACY = "function_call"


class _PartialCall:
    """One call. Until its name is known, its fragments wait."""

    __slots__ = (
        "arguments",
        "custom",
        "early",
        "early_chars",
        "given_id",
        "id",
        "index",
        "name",
        "object",
        "sent",
        "sent_inside",
        "text",
        "waiting",
    )

    def __init__(self, call_id: str, *, given: bool) -> None:
        self.id = call_id
        self.given_id = given
        self.custom = False
        self.name = ""
        self.index: int | None = None
        """Its number among the announced calls; None until it is announced."""
        self.arguments: list[str] = []
        """The texts so far, of a call whose id was made: only they say whether it is complete."""
        self.object = ""
        """The arguments that came as an object."""
        self.text = TextReader()
        self.sent: dict[str, Any] = {}
        self.sent_inside: dict[str, Any] = {}
        """The further fields of the call and of its function, as they were sent last."""
        self.early: list[str] = []
        self.early_chars = 0
        """The arguments that came before the name, and how long they are."""
        self.waiting: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        """The further fields, and those of the function, that came before the name."""

    @property
    def is_whole(self) -> bool:
        """Return whether its arguments are a JSON object already."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False  # to read all of them for each fragment would take too long
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False


class ToolCallReader:
    """The calls of one choice. `make_id` makes the id of a call that has none."""

    def __init__(self, make_id: Callable[[], str]) -> None:
        self._make_id = make_id
        self._slots: dict[int | str, _PartialCall] = {}
        self._by_id: dict[str, _PartialCall] = {}
        self._calls: list[_PartialCall] = []
        self._last: _PartialCall | None = None
        self._announced = 0

    def read(self, fragments: object) -> list[dict[str, Any]]:
        """Read the `tool_calls` of a delta or a message.

        Raises:
            ProviderGarbage: they are not a list of objects, or there are too many calls.
        """
        if not isinstance(fragments, list):
            raise ProviderGarbage("The provider sent tool calls that are not a list.")
        return [each for fragment in fragments for each in self._read(fragment)]

    def read_legacy(self, function_call: object) -> list[dict[str, Any]]:
        """Read the `function_call` of a delta or a message, which is at most one call."""
        return self._read({"index": _LEGACY, "function": function_call})

    def end(self, *, cut_off: bool) -> list[dict[str, Any]]:
        """Return the rest when the choice has finished; an answer that was `cut_off` may end in half a call.

        Raises:
            ProviderGarbage: a call has no name.
        """
        left = []
        for call in self._calls:
            if not call.name and not cut_off:
                raise ProviderGarbage("The provider sent a tool call without a name.")
            if call.name and (rest := call.text.end()):
                left.append(_fragment(call, rest, {}, {}))
        return left

    def _read(self, fragment: object) -> list[dict[str, Any]]:
        if not isinstance(fragment, dict):
            raise ProviderGarbage("The provider sent a tool call that is not an object.")
        custom = fragment.get("type") == "custom" or isinstance(fragment.get("custom"), dict)
        body = _body(fragment, "custom" if custom else "function")
        name, given = _word(body.get("name")), body.get("input" if custom else "arguments")
        call = self._call_of(fragment, name, more=given not in (None, ""))
        call.custom = call.custom or (custom and call.index is None)
        text = _as_text(given, call)
        if not call.given_id and text.strip():
            call.arguments.append(text)
        flat = body is fragment
        extra = _news({k: v for k, v in fragment.items() if k not in (_OWN | _FLAT if flat else _OWN)}, call.sent)
        inside = {} if flat else _news({k: v for k, v in body.items() if k not in _FLAT}, call.sent_inside)
        return self._put(call, name, call.text.read(text), extra, inside)

    def _put(
        self, call: _PartialCall, name: str, text: str, extra: dict[str, Any], inside: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if call.index is not None:
            return [_fragment(call, text, extra, inside)] if text or extra or inside else []
        extra_before, inside_before = call.waiting
        extra, inside = {**extra_before, **extra}, {**inside_before, **inside}
        call.early.append(text)
        if not name:
            call.waiting = extra, inside
            call.early_chars += len(text)
            if call.early_chars > EVENT_BYTES:
                raise ProviderGarbage(f"The provider sent over {EVENT_BYTES} characters of a call without a name.")
            return []
        text = "".join(call.early)
        call.name, call.index, call.early, call.waiting = name, self._announced, [], ({}, {})
        self._announced += 1
        return [_fragment(call, text, extra, inside, first=True)]

    # Which call a fragment belongs to.

    def _call_of(self, fragment: dict[str, Any], name: str, *, more: bool) -> _PartialCall:
        call_id, slot = _word(fragment.get("id")), _slot(fragment.get("index"))
        known = self._by_id.get(call_id)
        call = known or self._last if slot is None else self._slots.get(slot)
        if call is None:
            call = self._begin(call_id)
        elif _begins_another(call, call_id, name, more=more):
            call = known or self._begin(call_id)
        elif call_id and known is None and call.index is None:
            call.id, call.given_id = call_id, True
            self._by_id[call_id] = call
        if slot is not None:
            self._slots[slot] = call
        self._last = call
        return call

    def _begin(self, call_id: str) -> _PartialCall:
        if len(self._calls) >= TOOL_CALLS:
            raise ProviderGarbage(f"The provider sent more than {TOOL_CALLS} tool calls.")
        given = bool(call_id) and call_id not in self._by_id
        call = _PartialCall(call_id if given else self._make_id(), given=given)
        self._by_id[call.id] = call
        self._calls.append(call)
        return call


def _begins_another(call: _PartialCall, call_id: str, name: str, *, more: bool) -> bool:
    """Return whether a fragment at this call's place begins another call; `more`: the fragment has arguments."""
    if call_id and call.given_id:
        return call_id != call.id
    if not name or not call.name:
        return False
    # A name may be repeated, and an id may come late: both belong to this call unless it is complete.
    return name != call.name or (more and call.is_whole)


def _fragment(
    call: _PartialCall, text: str, extra: dict[str, Any], inside: dict[str, Any], *, first: bool = False
) -> dict[str, Any]:
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    if first:
        about = {"name": call.name, field: text, **inside}
        return {"index": call.index, "id": call.id, "type": kind, kind: about, **extra}
    about = {field: text, **inside} if text else inside
    return {"index": call.index, **({kind: about} if about else {}), **extra}


def _body(fragment: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the object with a call's name and arguments; some upstreams write them into the call itself."""
    body = fragment.get(kind)
    if body is None:
        return fragment
    if not isinstance(body, dict):
        raise ProviderGarbage(f"The provider sent a tool call whose {kind} is not an object.")
    return body


def _word(value: object) -> str:
    return whole(value) if isinstance(value, str) else ""


def _slot(index: object) -> int | str | None:
    """Return an upstream's number of a call. It is only a key: no list is as long."""
    match index:
        case bool():
            return None
        case int() | "function_call":
            return index
        case float() if index.is_integer():
            return int(index)
        case str() if index.isascii() and index.isdecimal() and len(index) <= len(str(2**63)):
            return int(index)
        case _:
            return None


def _as_text(arguments: object, call: _PartialCall) -> str:
    """Return arguments as text. Objects come whole: repeated ones are one."""
    if arguments is None or arguments == "":
        return ""
    if isinstance(arguments, str):
        return arguments
    text = encode_data(plain(arguments)).decode()
    if call.object == text:
        return ""
    call.object = text
    return text


def _news(fields: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Return the further fields that were not sent before."""
    news = {name: plain(value) for name, value in fields.items() if value not in (None, "") and sent.get(name) != value}
    sent.update(news)
    return news
