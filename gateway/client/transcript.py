"""What one reader knows of one job: its events, folded into an answer, and the proof that nothing is missing. Pure.

It keeps the reader's rules: an id is applied once, `rollback` forgets the deltas after `to`, `gap` forgets everything.
Above: commands.py feeds it, terminal.py shows what changed. Not here: connections, and what is shown how.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from gateway.client.text import whole_characters
from shared.errors import BadCursor, GatewayGarbage
from shared.events import START, TERMINAL_EVENTS, EventId, EventType, parse_id
from shared.sse_reader import SentEvent

_FIRST = EventId(0, 1)


class Voice(Enum):
    """Who speaks in a delta: the answer itself, or the model thinking aloud."""

    ANSWER = "answer"
    REASONING = "reasoning"


class Said(NamedTuple):
    """A piece of text was added. It may end in half of a character, whose other half comes with the next one."""

    voice: Voice
    text: str


class TakenBack(NamedTuple):
    """What was said is void, but for what the transcript still says."""

    why: str


class Counted(NamedTuple):
    """A job that counts got further."""

    how_far: str


Change = Said | TakenBack | Counted


class ToolCall(NamedTuple):
    """A tool that the model wants to be called, and its arguments, as JSON if the model is any good."""

    name: str
    arguments: str


class Proof(Enum):
    """What the terminal event says of the reader's events."""

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
    """One reader's view. `cursor` is what it sends as `Last-Event-ID`, `end` the terminal event, once it has come."""

    cursor: EventId = START
    end: End | None = None
    _events: int = 0
    _whole: bool = False
    _deltas: list[_Delta] = field(default_factory=list)

    def apply(self, event: SentEvent) -> tuple[Change, ...]:
        """The next event came; what it changes. One that was applied before changes nothing.

        Raises:
            GatewayGarbage: this is no event of Tailrace.
        """
        data = _data(event)
        if event.name == EventType.GAP:
            return self.forget("The gateway's log does not hold what was read.")
        if event.id is None:
            return ()  # for those who watch, and not in the log
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
        """Start over: what follows is the log from its earliest event."""
        said = any(self.said)
        self._deltas.clear()
        self._events = 0
        self.cursor = START
        return (TakenBack(why),) if said else ()

    @property
    def said(self) -> Iterator[Said]:
        """All that was said and holds."""
        return (said for delta in self._deltas for said in delta.said)

    @property
    def text(self) -> str:
        """The answer: what the model's first choice says, its reasoning left out."""
        return whole_characters("".join(said.text for said in self.said if said.voice is Voice.ANSWER))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools that the first choice wants to be called, in its order."""
        calls: dict[int, ToolCall] = {}
        for delta in self._deltas:
            for index, call in _tool_calls(json.loads(delta.data)):
                before = calls.get(index, ToolCall("", ""))
                calls[index] = ToolCall(before.name + call.name, before.arguments + call.arguments)
        return [ToolCall(*map(whole_characters, calls[index])) for index in sorted(calls)]

    @property
    def proof(self) -> Proof:
        """Whether all events came, and the deltas are those that the worker logged."""
        if self.end is None or not self._whole:
            return Proof.PARTIAL
        digest = hashlib.sha256(b"".join(delta.data for delta in self._deltas)).hexdigest()
        told = (self.end.data.get("events"), self.end.data.get("sha256"))
        return Proof.WHOLE if told == (self._events, digest) else Proof.BROKEN

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
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise GatewayGarbage(f"The gateway sent the data of an event ({event.name[:40]!r}) that is no JSON object.")
    return data


def _id(text: object) -> EventId:
    try:
        return parse_id(str(text))
    except BadCursor:
        raise GatewayGarbage(f"The gateway sent {str(text)[:40]!r} as the id of an event.") from None


def _said(delta: Mapping[str, Any]) -> tuple[Said, ...]:
    """What of OpenAI's delta is text. Only the first choice is shown."""
    if delta.get("index"):
        return ()
    pieces = (
        (Voice.REASONING, delta.get("reasoning_content") or delta.get("reasoning")),
        (Voice.ANSWER, delta.get("content")),
        (Voice.ANSWER, delta.get("refusal")),
    )
    return tuple(Said(voice, text) for voice, text in pieces if isinstance(text, str) and text)


def _tool_calls(delta: Mapping[str, Any]) -> Iterator[tuple[int, ToolCall]]:
    """The pieces of tool calls in a delta, each with its call's index."""
    pieces = delta.get("tool_calls")
    if delta.get("index") or not isinstance(pieces, list):
        return
    for piece in pieces:
        function = piece.get("function") if isinstance(piece, dict) else None
        if isinstance(function, dict):
            index = piece.get("index")
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            yield index if isinstance(index, int) else 0, ToolCall(str(name), str(arguments))
