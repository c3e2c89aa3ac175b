"""Takes Server-Sent Events apart (WHATWG HTML §9.2.6): pieces of bytes in, events out, however they were cut.

Above: the worker's provider, which reads an upstream's stream as far as its data, and the command line's connection,
which wants names and ids too. Pure. Not here: what an event means, nor when to connect again.
"""

from typing import NamedTuple

from shared.errors import EventTooLarge

# More digits than that are no time to wait.
_RETRY_DIGITS = 9


class SentEvent(NamedTuple):
    """An event as it was sent. `id` is what it brought itself: to keep the last one is its reader's business."""

    name: str
    data: bytes
    id: str | None


class _LineReader:
    """What both readers share: lines, and a bound on the bytes of an event that is not through."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def _lines(self, piece: bytes) -> list[bytes]:
        if b"\n" not in piece and b"\r" not in piece:
            self._tail += piece
            return []
        lines = b"".join((self._tail, piece)).splitlines(keepends=True)
        self._tail.clear()
        # A carriage return at the very end may be half of a line's end.
        if not lines[-1].endswith(b"\n"):
            self._tail += lines.pop()
        return [line.rstrip(b"\r\n") for line in lines]

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"An event of over {self._most} bytes came.")


class DataReader(_LineReader):
    """Events, of at most `most` bytes each, as far as their data: a token's way needs no more, and less takes less."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data, without white space around its lines, of the events that this piece completes.

        Raises:
            EventTooLarge: an event is over the bound.
        """
        events: list[bytes] = []
        for line in self._lines(piece):
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
                self._size += len(line)
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
        if self._size + len(self._tail) > self._most:
            raise self._too_large()
        return events


class EventReader(_LineReader):
    """Whole events, of at most `most` bytes each.

    `retry_ms` is how long the server last asked its readers to wait before they come back, in milliseconds.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.retry_ms: int | None = None
        self._name = b""
        self._id: bytes | None = None

    def feed(self, piece: bytes) -> list[SentEvent]:
        """The events that this piece completes.

        Raises:
            EventTooLarge: an event is over the bound.
        """
        events: list[SentEvent] = []
        for line in self._lines(piece):
            if line:
                self._take(line)
                continue
            if self._data:
                events.append(self._event())
            self._clear()
        if self._size + len(self._tail) > self._most:
            raise self._too_large()
        return events

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(line)
        elif field == b"event":
            self._name = value
        elif field == b"id" and b"\0" not in value:
            self._id = value
        elif field == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry_ms = int(value)

    def _event(self) -> SentEvent:
        event_id = None if self._id is None else self._id.decode(errors="replace")
        return SentEvent(self._name.decode(errors="replace") or "message", b"\n".join(self._data), event_id)

    def _clear(self) -> None:
        self._data.clear()
        self._size = 0
        self._name = b""
        self._id = None
