"""Translate a job's events into a stream of chunks: the part that OpenAI's two completion dialects share. Pure.

Subclasses shape the choices. Not here: HTTP, time, or how a job is read.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from gateway.dialects.chat.answer_options import AnswerOptions
from gateway.dialects.chat.chunk_id import FRAME_END, numbered
from gateway.dialects.chat.extras import Extras
from gateway.dialects.chat.outcome import finish_reasons, usage_of
from gateway.dialects.errors import Failure, body_of, failure_in
from shared.model.errors import status_of
from shared.model.events import START, Event, EventId, EventType, encode_data, parse_id

_DONE = b"data: [DONE]" + FRAME_END
# Two keys of an object stand next to each other with these bytes between them, if the first one's value is a text.
_NEXT_KEY = b'","'
_LOST = {
    EventType.ROLLBACK: "The answer was started over after a part of it had been sent; please ask again.",
    EventType.GAP: "A part of the answer was lost after it had been sent; please ask again.",
}


class ChunkStream(ABC):
    """Translate a job into a stream of chunks.

    `shown`: a chunk was sent. `ended`: no event adds anything. `failure`: the reason of a bad end. A failure before the
    first chunk has no frame of its own, since it may still become an HTTP status. Each chunk has an SSE id, which
    OpenAI's clients ignore (chunk_id.py). The frame that ends a stream has none, so that no cursor lies behind it.
    """

    KIND: ClassVar[str]
    """The `object` of each chunk."""
    PLAIN: ClassVar[tuple[bytes, ...]]
    """The beginnings of deltas that go into a chunk without decoding, if they hold no second key."""
    PART: ClassVar[slice]
    """The part of such a delta's bytes that goes into the chunk."""
    HOLE: ClassVar[bytes]
    """A choice's field whose value is empty: the part takes the place of its last two bytes."""

    def __init__(self, options: AnswerOptions) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._include_usage = options.include_usage
        self._head = options.head(self.KIND)
        self._tail: dict[str, Any] = {"usage": None} if options.include_usage else {}
        self._opened: set[int] = set()
        self._extras = Extras()
        self._repeated: dict[str, Any] | None = None
        """The chunk's fields that `_before` holds."""
        self._before = self._after = b""
        self._is_quick = False
        """Whether a plain delta of the first choice fits between `_before` and `_after` as it is."""

    def translate(self, event: Event) -> bytes:
        """Return the frames for this event; empty if this dialect does not show it."""
        if self.ended:
            return b""
        match event.type:
            case EventType.DELTA:
                data = event.data
                if self._is_quick and data.startswith(self.PLAIN) and _NEXT_KEY not in data:
                    return b"%s%s%s\nid: %d-%d\n\n" % (self._before, data[self.PART], self._after, *(event.id or START))
                return self._delta(event.json(), event.id or START)
            case EventType.COMPLETED:
                return numbered(self._completed(event.json()), event.id or START) + _DONE
            case EventType.FAILED | EventType.CANCELLED | EventType.EXPIRED:
                return self._failed(failure_in(event))
            case EventType.ROLLBACK | EventType.GAP if self.shown:
                # A chunk can't be taken back.
                return self._failed(lost(event.type))
            case EventType.ROLLBACK:
                self._extras.forget_after(parse_id(event.json()["to"]))
            case EventType.GAP:
                self._extras.forget_after(START)
            case _:
                pass
        return b""

    def failure_frame(self) -> bytes:
        """Return the failure's frame, for use after the headers were sent; empty without a failure."""
        return b"" if self.failure is None else error_frame(self.failure)

    def interruption(self, failure: Failure) -> bytes:
        """Write the reason why the stream breaks off here, although its job continues."""
        return error_frame(failure)

    @abstractmethod
    def _choice(self, index: int, delta: dict[str, Any]) -> dict[str, Any] | None:
        """Return the choice of a delta's chunk; None if this dialect shows nothing of the delta."""

    @abstractmethod
    def _finished(self, index: int, reason: str) -> dict[str, Any]:
        """Return the choice of the chunk that ends this choice."""

    @abstractmethod
    def _empty(self) -> dict[str, Any]:
        """Return the first choice with an empty delta; it holds `HOLE` once."""

    def _opening(self, index: int, delta: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the choices of the chunks that come before this choice's first delta."""
        return []

    def _delta(self, delta: dict[str, Any], event_id: EventId) -> bytes:
        index = delta.pop("index", 0)
        choice_extra, chunk_extra = delta.pop("choice_extra", None), delta.pop("chunk_extra", None)
        self._extras.note(event_id, index, choice_extra, chunk_extra)
        choice = self._choice(index, delta)
        if choice is None:
            self._is_quick = self._is_quick and not self._extras.waiting
            return b""
        self.shown = True
        frames = numbered(self._chunks(choice, delta), event_id)
        self._is_quick = 0 in self._opened and 0 not in self._extras.waiting
        return frames

    def _completed(self, outcome: Mapping[str, Any]) -> bytes:
        self.ended = True
        frames = list(self._finishes(outcome))
        if self._include_usage:
            frames.append(_frame({**self._head, **self._extras.stays, "choices": [], "usage": usage_of(outcome)}))
        return b"".join(frames)

    def _finishes(self, outcome: Mapping[str, Any]) -> Iterator[bytes]:
        """Finish each choice. To open one may open others, which are then finished too."""
        finished: set[int] = set()
        while finished != (reasons := finish_reasons(outcome, self._opened | self._extras.waiting)).keys():
            index = min(reasons.keys() - finished)
            finished.add(index)
            yield self._chunks(self._finished(index, reasons[index]), {"content": ""})

    def _failed(self, failure: Failure) -> bytes:
        self.ended = True
        self.failure = failure
        return self.failure_frame() if self.shown else b""

    def _chunks(self, choice: dict[str, Any], delta: Mapping[str, Any]) -> bytes:
        """Return the choice's chunk with the fields that waited for it, after the chunks that open the choice."""
        index = choice["index"]
        extra, once = self._extras.take(index)
        if self._repeated != self._extras.stays:
            self._repeated = dict(self._extras.stays)
            start, hole, end = self._chunk(self._empty()).partition(self.HOLE)
            self._before, self._after = start + hole[:-2], end.removesuffix(FRAME_END)
        opening = [] if index in self._opened else self._opening(index, delta)
        self._opened.add(index)
        return b"".join(map(self._chunk, opening)) + self._chunk({**choice, **extra}, once)

    def _chunk(self, choice: dict[str, Any], once: Mapping[str, Any] = MappingProxyType({})) -> bytes:
        return _frame({**self._head, **self._extras.stays, **once, "choices": [choice], **self._tail})


def _frame(data: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % encode_data(data)


def error_frame(failure: Failure) -> bytes:
    """Return the frame of a failure. It has no id, so that no cursor lies behind it."""
    return _frame(body_of(failure))


def lost(event: EventType) -> Failure:
    """Return the failure of a stream that ends at a `rollback` or a `gap`."""
    return Failure(code=event.value, message=_LOST[event], status=status_of(event.value), retryable=True)
