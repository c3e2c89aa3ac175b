"""An incremental reader of Server-Sent Events (WHATWG HTML §9.2.6): pieces of bytes in, events out.

The worker's provider and the command line's connection use it. Pure. Not here: the meaning of an event, and when to
connect again.
"""

from typing import NamedTuple

from shared.model.errors import EventTooLarge

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Longer numbers are not a sensible time to wait.
_RETRY_DIGITS = 9
# A named tuple's own constructor takes twice as long, for each token.
_new = tuple.__new__


class SentEvent(NamedTuple):
    """One event of a stream. `data` is as it was sent, `id` the event's own."""

    name: str
    data: bytes
    id: str | None

    @property
    def text(self) -> str:
        """The data, with U+FFFD for each sequence of bytes that is not UTF-8."""
        return self.data.decode(errors="replace")


class EventReader:
    """Read the events of one stream, of at most `most` bytes each.

    `retry_ms` is the reconnection time that the server last asked for, in milliseconds.
    """

    def __init__(self, most: int) -> None:
        self.retry_ms: int | None = None
        self._most = most
        self._at_start = True
        self._after_cr = False
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = "message"
        self._id: str | None = None

    def feed(self, piece: bytes) -> list[SentEvent]:
        """Return the events that this piece completes.

        Raises:
            EventTooLarge: a line, or the lines of an event together, are over the bound.
        """
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        events: list[SentEvent] = []
        data, most = self._data, self._most
        for line in self._lines(piece):
            if not line:
                if data:
                    events.append(self._event())
                    data.clear()
                self._size = 0
                self._name, self._id = "message", None
            elif self._size + len(line) > most:
                raise self._too_large()
            elif line.startswith(b"data: "):
                data.append(line[6:])
                self._size += len(line)
            else:
                self._take(line)
        if self._size + len(self._tail) > most:
            raise self._too_large()
        return events

    def _lines(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes, without their ends."""
        if b"\n" not in piece and b"\r" not in piece:
            self._tail += piece
            return []
        if self._tail:
            piece = b"".join((self._tail, piece))
            self._tail.clear()
        lines = piece.splitlines()
        if not piece.endswith((b"\n", b"\r")):
            self._tail += lines.pop()
        # The line is complete, but a line feed may follow that belongs to its end.
        self._after_cr = piece.endswith(b"\r")
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace") or "message"
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        else:
            if field == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
                self.retry_ms = int(value)
            return
        self._size += len(line)

    def _event(self) -> SentEvent:
        data = self._data
        return _new(SentEvent, (self._name, data[0] if len(data) == 1 else b"\n".join(data), self._id))

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"An event of over {self._most} bytes came.")
