"""Fold the events of one job, as one reader gets them, into an answer and the proof that nothing is missing. Pure.

It follows the reader's rules: an id is applied once, `rollback` forgets the deltas after `to`, `gap` forgets
everything. Not here: connections, and how changes are shown (gateway/client/terminal.py).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from shared.model.errors import BadCursor, GatewayGarbage
from shared.model.events import START, TERMINAL_EVENTS, EventId, EventType, parse_id
from shared.model.sse_parser import SentEvent

_FIRST = EventId(0, 1)


class Voice(Enum):
    """The kind of a delta's text: the answer itself, or the model's reasoning."""

    ANSWER = "answer"
    REASONING = "reasoning"


class Said(NamedTuple):
    """A piece of text was added."""

    voice: Voice
    text: str


_VOICES = {"reasoning_content": Voice.REASONING, "content": Voice.ANSWER, "refusal": Voice.ANSWER}
"""The texts of a delta, in the order in which they are shown."""


class TakenBack(NamedTuple):
    """Earlier text is void, except for the text that the transcript still holds."""

    why: str


class Counted(NamedTuple):
    """A job that counts its progress has advanced."""

    how_far: str


Change = Said | TakenBack | Counted


class ToolCall(NamedTuple):
    """A tool that the model wants to be called, and its arguments: JSON, unless the model made a mistake."""

    name: str
    arguments: str


class Proof(Enum):
    """The result of the check of the reader's events against the terminal event."""

    WHOLE = "whole"
    PARTIAL = "partial"
    """It did not read from the start, so that nothing can be proven."""
    BROKEN = "broken"


class End(NamedTuple):
    """The terminal event."""

    type: EventType
    data: Mapping[str, Any]


class _Delta(NamedTuple):
    id: EventId
    data: bytes
    said: tuple[Said, ...]


@dataclass
class Transcript:
    """Fold one reader's events. `cursor` is its `Last-Event-ID`, `end` the terminal event once it has arrived."""

    cursor: EventId = START
    end: End | None = None
    _events: int = 0
    _whole: bool = False
    _deltas: list[_Delta] = field(default_factory=list)

    def apply(self, event: SentEvent) -> tuple[Change, ...]:
        """Apply the next event; return its changes. An event that was applied before changes nothing.

        Raises:
            GatewayGarbage: this is not an event of Tailrace.
        """
        data = _data(event)
        if event.name == EventType.GAP:
            return self.forget("The gateway's log does not hold what was read.")
        if event.id is None:
            return ()  # for live readers only, and not in the log
        event_id = _id(event.id)
        if self.end is not None or event_id <= self.cursor:
            return ()
        if not self._events:
            self._whole = event_id == _FIRST
        self.cursor = event_id
        self._events += 1
        if event.name == EventType.DELTA:
            self._deltas.append(_Delta(event_id, event.data, _said(data)))
            return self._deltas[-1].said
        if event.name == EventType.ROLLBACK:
            return self._roll_back(data)
        if event.name == EventType.PROGRESS:
            message = data.get("message")
            return (Counted(message if isinstance(message, str) else f"{data.get('done')} of {data.get('total')}"),)
        if event.name in TERMINAL_EVENTS:
            self.end = End(EventType(event.name), data)
        return ()

    def forget(self, why: str) -> tuple[Change, ...]:
        """Start over: the next event is the log's earliest."""
        said = any(self.said)
        self._deltas.clear()
        self._events = 0
        self.cursor = START
        return (TakenBack(why),) if said else ()

    @property
    def said(self) -> Iterator[Said]:
        """Yield all text that is still valid."""
        return (said for delta in self._deltas for said in delta.said)

    @property
    def text(self) -> str:
        """Return the answer: the text of the model's first choice, without its reasoning."""
        return "".join(said.text for said in self.said if said.voice is Voice.ANSWER)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Return the tools that the first choice wants to be called, in its order.

        Raises:
            GatewayGarbage: the gateway sent a tool call that is not in the form of its log.
        """
        calls: dict[int, ToolCall] = {}
        for delta in self._deltas:
            for index, name, arguments in _fragments(json.loads(delta.data)):
                before = calls.get(index, ToolCall("", ""))
                calls[index] = ToolCall(before.name + name, before.arguments + arguments)
        return list(calls.values())

    @property
    def proof(self) -> Proof:
        """Check that all events have arrived, and that the deltas are those that the worker logged."""
        if self.end is None or not self._whole:
            return Proof.PARTIAL
        digest = hashlib.sha256(b"".join(delta.data for delta in self._deltas)).hexdigest()
        claimed = (self.end.data.get("events"), self.end.data.get("sha256"))
        return Proof.WHOLE if claimed == (self._events, digest) else Proof.BROKEN

    def _roll_back(self, data: Mapping[str, Any]) -> tuple[Change, ...]:
        to = _id(data.get("to"))
        kept = [delta for delta in self._deltas if delta.id <= to]
        said = any(delta.said for delta in self._deltas[len(kept) :])
        self._deltas = kept
        reason = data.get("reason")
        why = f"The attempt was lost ({reason})." if isinstance(reason, str) else "The attempt was lost."
        return (TakenBack(why),) if said else ()


def _data(event: SentEvent) -> Mapping[str, Any]:
    try:
        data = json.loads(event.text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise GatewayGarbage(f"The gateway sent the data of an event ({event.name[:40]!r}) that is not a JSON object.")
    return data


def _id(text: object) -> EventId:
    try:
        return parse_id(str(text))
    except BadCursor:
        raise GatewayGarbage(f"The gateway sent {str(text)[:40]!r} as the id of an event.") from None


def _said(delta: Mapping[str, Any]) -> tuple[Said, ...]:
    """Return the texts of a delta. Only the first choice is shown."""
    if delta.get("index"):
        return ()
    said = tuple(Said(voice, delta[name]) for name, voice in _VOICES.items() if name in delta)
    if not all(isinstance(each.text, str) for each in said):
        raise GatewayGarbage("The gateway sent a delta whose text is not a string.")
    return said


def _fragments(delta: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Yield the index, name and arguments of each fragment of a tool call; only a call's first one has a name."""
    if delta.get("index"):
        return
    calls = delta.get("tool_calls", [])
    for fragment in calls if isinstance(calls, list) else (calls,):
        match fragment:
            case {"index": int(index), "function": {**body}}:
                yield index, str(body.get("name", "")), str(body.get("arguments", ""))
            case {"index": int(index), "custom": {**body}}:
                yield index, str(body.get("name", "")), str(body.get("input", ""))
            case {"index": int()}:
                pass  # further fields only
            case _:
                raise GatewayGarbage("The gateway sent a tool call without an index.")
