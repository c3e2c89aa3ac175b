"""Read the state of an answer that has called tools from the log of its job: its thoughts, and its calls' own fields.

Pure. Not here: how a log is read, and the message that gets the state back (answer_state.py).
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.dialects.call_fragments import add_extra, call_fragments
from shared.model.events import EventType, decode_frame, first_id, parse_id

Extras = dict[str, Any]
"""Further fields of a call, such as Gemini's `extra_content`."""

_ROLLBACK: Final = b"event: %s\n" % EventType.ROLLBACK.encode()
# Other frames hold no state, so that they are not decoded.
_STATEFUL: Final = (b'"tool_calls"', b'"reasoning_content"')


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer's thoughts, and the further fields of each call by its id."""

    thoughts: str = ""
    calls: Mapping[str, Extras] = field(default_factory=dict)


class AnswerLog:
    """Read the state of an answer from the frames of its job's log."""

    def __init__(self) -> None:
        self.size = 0
        """The bytes of the frames that hold state."""
        self._deltas: list[bytes] = []

    def accept(self, frame: bytes) -> None:
        """Take the next frame."""
        if frame.startswith(_ROLLBACK):
            to = parse_id(decode_frame(frame).json()["to"])
            self._deltas = [delta for delta in self._deltas if first_id(delta) <= to]
        elif any(name in frame for name in _STATEFUL):
            self.size += len(frame)
            self._deltas.append(frame)

    def answer(self) -> LoggedAnswer:
        """Collect the state. An answer without calls has none: nothing is demanded back for it."""
        ids: dict[int, str] = {}
        extras: dict[int, Extras] = defaultdict(dict)
        thoughts: list[str] = []
        for data in self._data():
            if isinstance(thought := data.get("reasoning_content"), str):
                thoughts.append(thought)
            for fragment in call_fragments(data):
                ids.setdefault(fragment.number, fragment.id)
                add_extra(extras[fragment.number], fragment)
        calls = {ids[number]: found for number, found in extras.items() if ids[number]}
        return LoggedAnswer("".join(thoughts), calls) if calls else LoggedAnswer()

    def _data(self) -> Iterator[Mapping[str, Any]]:
        """Decode the deltas of the first choice: a response is one answer."""
        # One call of the parser for all of them costs a fraction of one call for each.
        lines = (delta.split(b"\n", 2)[1].removeprefix(b"data: ") for delta in self._deltas)
        return (data for data in json.loads(b"[%s]" % b",".join(lines)) if not data.get("index"))
