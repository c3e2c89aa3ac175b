"""Fold a job's events into one whole answer: the part that OpenAI's two completion dialects share. Pure.

Subclasses shape the choices. Not here: HTTP, time, or how a job is read.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.chat.extras import add_fields, shown_extra
from gateway.dialects.chat.outcome import finish_reasons, usage_of
from gateway.dialects.errors import Failure, failure_in
from shared.model.events import START, Event, EventType, parse_id


class WholeAnswer(ABC):
    """Fold a job into one object. `ended`: no event adds anything; then there is either a `failure` or a body."""

    KIND: ClassVar[str]
    """The `object` of the answer."""

    def __init__(self, options: AnswerOptions) -> None:
        self.ended = False
        self.failure: Failure | None = None
        self._head = options.head(self.KIND)
        self._deltas: list[Event] = []
        self._outcome: Mapping[str, Any] | None = None

    def accept(self, event: Event) -> None:
        """Take the job's next event."""
        if self.ended:
            return
        match event.type:
            case EventType.DELTA:
                self._deltas.append(event)
            case EventType.ROLLBACK:
                to = parse_id(event.json()["to"])
                self._deltas = [delta for delta in self._deltas if (delta.id or START) <= to]
            case EventType.GAP:
                self._deltas.clear()
            case EventType.COMPLETED:
                self.ended = True
                self._outcome = event.json()
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                self.ended = True
                self.failure = failure_in(event)
            case _:
                pass

    def message(self) -> dict[str, Any] | None:
        """Return the first choice's text so far as a message of a chat, with the reasoning that led to it.

        Its calls are not among it: a chat takes a call together with its result only.
        """
        deltas = [delta for delta in self._decoded() if not delta.get("index")]
        if not (words := words_of(deltas)):
            return None
        thoughts = _texts_of(deltas, "reasoning_content")
        return {"role": "assistant", "content": words, **({"reasoning_content": thoughts} if thoughts else {})}

    def body(self) -> dict[str, Any]:
        """Return the answer.

        Raises:
            ValueError: the job has not completed.
        """
        if self._outcome is None:
            raise ValueError("Only a completed job has a complete answer.")
        deltas: dict[int, list[dict[str, Any]]] = {}
        beside: dict[int, dict[str, Any]] = {}
        further: dict[str, Any] = {}
        for delta in self._decoded():
            index = delta.pop("index", 0)
            further |= shown_extra(delta.pop("chunk_extra", None))
            add_fields(beside.setdefault(index, {}), shown_extra(delta.pop("choice_extra", None)))
            deltas.setdefault(index, []).append(delta)
        choices = [
            {**self._choice(index, reason, deltas.get(index, [])), **beside.get(index, {})}
            for index, reason in finish_reasons(self._outcome, deltas).items()
        ]
        return {**self._head, **further, "choices": choices, "usage": usage_of(self._outcome)}

    @abstractmethod
    def _choice(self, index: int, reason: str, deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return one choice, made of all its deltas."""

    def _decoded(self) -> list[dict[str, Any]]:
        # One call of the parser for all deltas costs a fraction of one call for each.
        decoded: list[dict[str, Any]] = json.loads(b"[%s]" % b",".join(delta.data for delta in self._deltas))
        return decoded


def words_of(deltas: Iterable[Mapping[str, Any]]) -> str:
    """Return the words of an answer or a refusal."""
    return _texts_of(deltas, "content", "refusal")


def _texts_of(deltas: Iterable[Mapping[str, Any]], *names: str) -> str:
    # A log of an earlier version may hold contents that are not texts.
    return "".join(text for delta in deltas for name in names if isinstance(text := delta.get(name), str))
