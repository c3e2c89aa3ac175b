"""One stream of chat completion chunks: an upstream's JSON in, deltas of one form, finish reasons and usage out.

The differences between upstreams end here: the log and all dialects know one form (README, "Events"). Pure. Not here:
bytes, and errors that stand in place of a chunk (refusals.py).
"""

from itertools import count
from typing import Any, Final

from shared.model.bounds import CHOICES, EXTRA_FIELDS
from shared.model.errors import ProviderGarbage
from worker.upstream.wire.choice_reader import ChoiceReader, Delta, Refuse
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.plain_values import plain

# `model` is the caller's to name, `created` and `id` are the job's; `obfuscation` is padding.
_KNOWN: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})


class ChunkReader:
    """The chunks of one answer, in order.

    `seed` makes the ids of tool calls that have none; no other answer of a conversation may have it. `refuse` makes the
    error of an attempt from an upstream's error object.
    """

    def __init__(self, seed: str, refuse: Refuse) -> None:
        numbers = count()
        self._make_id = lambda: f"call_{seed}{next(numbers)}"
        self._refuse = refuse
        self._choices: dict[int, ChoiceReader] = {}
        self._sent_extra: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._finished = False

    @property
    def understood(self) -> bool:
        """Return whether any chunk had a choice."""
        return bool(self._choices)

    def read(self, data: object) -> Chunk:
        """Read a decoded `chat.completion.chunk` or `chat.completion` (OpenAI API reference, chat).

        Raises:
            AttemptFailed: a choice has an error, or its finish reason is one.
            ProviderGarbage: it is not a chunk.
        """
        if not isinstance(data, dict):
            raise ProviderGarbage("The provider sent a chunk that is not an object.")
        if (delta := self._plain(data)) is not None:
            return Chunk((delta,))
        if not data.keys() <= _KNOWN:
            self._note_extra(data)
        deltas: list[Delta] = []
        finished: list[tuple[int, str]] = []
        usage = data.get("usage")
        for place, choice in enumerate(_choices(data)):
            index = choice.get("index")
            if type(index) is not int:
                index = place if index is None else _number(index)
            reader = self._choices.get(index)
            said, reason = (reader or self._begin(index)).read(choice)
            deltas += said
            if reason is not None:
                self._finished = True
                finished.append((index, reason))
            usage = usage or choice.get("usage")  # Moonshot's place for it
        if self._extra:
            deltas = self._dressed(deltas)
        return Chunk(tuple(deltas), tuple(finished), usage if usage and isinstance(usage, dict) else None)

    def end(self) -> tuple[Chunk, ...]:
        """Return the rest at the end of the stream: one chunk at most."""
        deltas = [delta for reader in self._choices.values() for delta in reader.end()]
        if self._extra:
            deltas = self._dressed(deltas)
        return (Chunk(tuple(deltas)),) if deltas else ()

    def _plain(self, data: dict[str, Any]) -> Delta | None:
        """Return the delta of a chunk that has a piece of one choice's text and nothing else: nearly every token."""
        choices = data.get("choices")
        if self._extra or type(choices) is not list or len(choices) != 1 or data.get("usage"):
            return None
        choice = choices[0]
        if type(choice) is not dict or type(index := choice.get("index")) is not int or not data.keys() <= _KNOWN:
            return None
        reader = self._choices.get(index)
        return None if reader is None else reader.plain(choice)

    def _begin(self, index: int) -> ChoiceReader:
        if not 0 <= index < CHOICES:
            raise ProviderGarbage(f"The provider sent a choice whose index is not a number below {CHOICES}.")
        return self._choices.setdefault(index, ChoiceReader(index, self._make_id, self._refuse))

    def _note_extra(self, data: dict[str, Any]) -> None:
        for name, value in data.items():
            if name not in _KNOWN and value is not None and self._sent_extra.get(name) != value:
                self._sent_extra[name] = value
                self._extra[name] = plain(value)
        if len(self._sent_extra) > EXTRA_FIELDS:
            raise ProviderGarbage(f"The provider sent more than {EXTRA_FIELDS} further fields beside its choices.")

    def _dressed(self, deltas: list[Delta]) -> list[Delta]:
        """Add the chunk's further fields to a delta; after the last one they are a delta of their own."""
        if not deltas and not self._finished:
            return deltas
        extra, self._extra = self._extra, {}
        if not deltas:
            return [{"chunk_extra": extra}]
        return [{**deltas[0], "chunk_extra": extra}, *deltas[1:]]


def _choices(data: dict[str, Any]) -> list[dict[str, Any]]:
    choices = data.get("choices") or []
    if not isinstance(choices, list):
        raise ProviderGarbage("The provider sent choices that are not a list.")
    for choice in choices:
        if not isinstance(choice, dict):
            raise ProviderGarbage("The provider sent a choice that is not an object.")
    return choices


def _number(index: object) -> int:
    match index:
        case float() if index.is_integer():
            return int(index)
        case str() if index.isascii() and index.isdecimal() and len(index) <= len(str(CHOICES)):
            return int(index)
        case _:
            return -1
