"""Write response events as frames, numbered without a gap, but for one after an epoch that follows a loss. Pure.

A server that was killed may lose events that were shown. The execution that follows has an epoch far beyond the last
one (`begin` of shared/store/functions). Its numbers begin there: a number shows whether its event still exists.
Not here: which events there are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shared.model.events import encode_data

_EPOCH_BITS = 20
"""More events than a log can hold; epochs are ticks of a job's life of a week at most, so that numbers fit a double."""

Template = tuple[bytes, bytes, bytes]
"""A delta's frame before its number, between number and text, and after its text."""


class ResponseFrames:
    """Write the frames of one stream. Events are counted from 0; only those with a number over `after` are written."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._next = 0

    def begin_epoch(self, epoch: int) -> bool:
        """Begin the numbers of an epoch after a loss; return whether the reader has seen lost events."""
        first = epoch << _EPOCH_BITS
        lost = self._next <= self._after < first
        self._next = max(self._next, first)
        return lost

    def interruption(self, data: Mapping[str, Any]) -> bytes:
        """Write an error that is not part of the stream. It has the last event's number: the rest follows that."""
        number = max(self._next - 1, self._after, 0)
        return b"event: error\ndata: %s\n\n" % encode_data({"type": "error", "sequence_number": number, **data})

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one event."""
        return self.built(name, lambda: data)

    def built(self, name: str, build: Callable[[], Mapping[str, Any]]) -> bytes:
        """Write one event, building its data only if it is written."""
        number = self._number()
        if number <= self._after:
            return b""
        payload = encode_data({"type": name, "sequence_number": number, **build()})
        return b"event: %s\ndata: %s\n\n" % (name.encode(), payload)

    def delta(self, template: Template, text: bytes) -> bytes:
        """Write one delta; `text` is the inside of a JSON string."""
        number = self._number()
        if number <= self._after:
            return b""
        before, middle, after = template
        return b"%s%d%s%s%s" % (before, number, middle, text, after)

    def _number(self) -> int:
        number = self._next
        self._next += 1
        return number
