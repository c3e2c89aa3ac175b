"""Hold the fields that an upstream sends beside its deltas, until a chunk shows them. Pure.

`choice_extra` holds further fields of the upstream's choice, `chunk_extra` those of its chunk. Not here: the fields of
the delta itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from shared.model.events import PIECES, EventId

# Fields that the dialects set themselves. An upstream's further field never replaces one of them.
_RESERVED = frozenset(
    {
        *("id", "object", "created", "model", "choices", "usage"),
        *("index", "delta", "message", "text", "finish_reason", "logprobs"),
    }
)

_Fields = Mapping[str, Any]


def shown_extra(extra: _Fields | None) -> dict[str, Any]:
    """Return the further fields that may be shown."""
    return {name: value for name, value in (extra or {}).items() if name not in _RESERVED}


def add_fields(fields: dict[str, Any], more: _Fields) -> None:
    """Add the further fields of another delta of a choice: the last value counts, but `PIECES` add up."""
    for name, value in more.items():
        before = fields.get(name)
        if name in PIECES and isinstance(value, list) and isinstance(before, list):
            before += value
        else:
            fields[name] = value


class _Noted(NamedTuple):
    event: EventId
    choice_index: int
    choice: dict[str, Any]
    chunk: _Fields


class Extras:
    """Hold the further fields of one streamed answer.

    A field waits for the next chunk of its choice. So an event that holds nothing else begins no answer, and a field
    that the upstream sent with a finish reason is shown with it. `stays`: scalars of the chunk, which every later
    chunk repeats until they change (OpenAI repeats `system_fingerprint` and `service_tier` on each chunk).
    """

    def __init__(self) -> None:
        self.stays: dict[str, Any] = {}
        self.waiting: set[int] = set()
        """The choices with fields that have not been shown."""
        self._noted: list[_Noted] = []

    def note(self, event: EventId, index: int, choice: _Fields | None, chunk: _Fields | None) -> None:
        """Hold the further fields of one delta, and that its choice exists."""
        noted = _Noted(event, index, shown_extra(choice), shown_extra(chunk))
        if noted.choice or noted.chunk or index not in self.waiting:
            self._noted.append(noted)
            self.waiting.add(index)

    def forget_after(self, event: EventId) -> None:
        """Forget the waiting fields of the deltas after this event. Nothing may have been taken yet."""
        self._noted = [noted for noted in self._noted if noted.event <= event]
        self.waiting = {noted.choice_index for noted in self._noted}

    def take(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the waiting fields of this choice, and the chunk's objects and lists; update `stays`."""
        choices: dict[int, _Noted] = {}
        once: dict[str, Any] = {}
        for noted in self._noted:
            for name, value in noted.chunk.items():
                if isinstance(value, dict | list):
                    self.stays.pop(name, None)
                    once[name] = value
                else:
                    self.stays[name] = value
            waiting = choices.setdefault(noted.choice_index, noted._replace(chunk={}))
            if waiting.choice is not noted.choice:
                add_fields(waiting.choice, noted.choice)
        taken = choices.pop(index, None)
        # One for each choice: a stream of fields for a choice that is never shown costs no more than they do.
        self._noted = list(choices.values())
        self.waiting = set(choices)
        return taken.choice if taken else {}, {name: value for name, value in once.items() if name not in self.stays}
