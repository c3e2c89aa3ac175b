"""Follow one reader's position in one job: replay → live → closed. This is the hand-off between log and live feed.

A live message is applied only if it starts at position + 1 in the same epoch. Everything else sends the reader back to
the log. So every reader gets exactly the log after its cursor. Pure: no I/O, no clock, nothing that can block. Not
here: waiting and I/O (gateway/streams/reader.py).
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from shared.model.events import EventId, after_cursor, encode_gap, first_id, is_terminal, last_id


class Live(NamedTuple):
    """A live message, parsed once for all its readers."""

    first: EventId
    last: EventId
    frames: bytes
    terminal: bool


def read_live(payload: bytes) -> Live | None:
    """Parse a live message; None for a nudge, whose frames are in the log only."""
    if not payload:
        return None
    return Live(first_id(payload), last_id(payload), payload, is_terminal(payload))


class Phase(Enum):
    """The phases of a reader."""

    REPLAY = "replay"
    LIVE = "live"
    CLOSED = "closed"


class Subscriber:
    """Track one reader: its position, its pending frames, and whether the log must be read.

    At most about `max_bytes` are pending, even if the reader's socket is stuck. Frames over this bound are dropped, and
    read from the log once the reader has taken the pending ones.
    """

    __slots__ = (
        "_ended",
        "_held",
        "_held_bytes",
        "_max_bytes",
        "_missed",
        "_pending",
        "_pending_bytes",
        "_reading",
        "phase",
        "position",
        "sent",
    )

    def __init__(self, cursor: EventId, *, max_bytes: int) -> None:
        self.phase = Phase.REPLAY
        self.position = cursor
        """The last event that is pending or sent."""
        self.sent = cursor
        """The last event that the reader has taken."""
        self._max_bytes = max_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._held: list[Live] = []
        self._held_bytes = 0
        self._reading = False
        self._missed = False
        self._ended = False

    def offer(self, message: Live | None) -> bool:
        """Take a live message, or a nudge (None). Return whether the reader has something to do."""
        if self._ended or self.phase is Phase.CLOSED:
            return False
        if self.phase is Phase.REPLAY:
            if self._reading:
                self._hold(message)
            return False
        if message is None:
            return self.lose()
        if message.last <= self.position:
            return False
        if message.first != self.position.next():
            return self.lose()
        if self._pending_bytes + len(message.frames) > self._max_bytes and self._pending:
            self._drop_pending()
            return self.lose()
        self._apply(message)
        return True

    def lose(self) -> bool:
        """Return to the log, because a message may have been missed. Return whether this changes the phase."""
        if self.phase is Phase.LIVE and not self._ended:
            self.phase = Phase.REPLAY
            return True
        self._missed = True
        return False

    def behind(self, tail: EventId | None) -> bool:
        """Return whether the log's tail shows that an event was missed; None is a job that is gone."""
        return self.phase is Phase.LIVE and not self._ended and (tail is None or tail > self.position)

    def start_reading(self) -> EventId:
        """Begin a read of the log after the returned cursor; messages are held meanwhile."""
        self._reading = True
        self._missed = False
        return self.position

    def stop_reading(self) -> None:
        """Discard a read that failed; nothing of it counts."""
        self._reading = False
        self._held = []
        self._held_bytes = 0

    def replayed(
        self, entries: Sequence[bytes], earliest: EventId, latest: EventId, *, known: bool, more: bool, over: bool
    ) -> bool:
        """Take the log's answer to the read that `start_reading` began; return whether the reader gets a gap.

        `known` says that the log holds the event at our position, `over` that the job has ended.
        """
        if gap := _gap(self.position, earliest, latest, known=known):
            self._push(gap)
            # This page was read after a cursor that does not exist; the next one starts at the earliest event left.
            self.position = EventId(earliest.epoch, max(earliest.seq - 1, 0))
            self.stop_reading()
            return True
        for entry in entries:
            if frames := after_cursor(entry, self.position):
                self._push(frames)
                self.position = last_id(entry)
                self._ended = is_terminal(entry)
        held, missed = self._held, self._missed
        self.stop_reading()
        if over and not more:
            self._ended = True
        if self._ended or more or missed:
            return False
        self.phase = Phase.LIVE
        for message in held:
            self.offer(message)
        return False

    def take(self) -> bytes:
        """Return all pending frames, joined, or nothing. After the terminal event the subscriber is closed."""
        if self._pending_bytes == 0:
            if self._ended:
                self.phase = Phase.CLOSED
            return b""
        frames = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending = []
        self._pending_bytes = 0
        self.sent = self.position
        return frames

    @property
    def ended(self) -> bool:
        """Return whether the terminal event was taken or is pending."""
        return self._ended

    def _hold(self, message: Live | None) -> None:
        if message is None or self._held_bytes + len(message.frames) > self._max_bytes:
            self._missed = True
        elif not self._missed:
            self._held.append(message)
            self._held_bytes += len(message.frames)

    def _apply(self, message: Live) -> None:
        self._push(message.frames)
        self.position = message.last
        self._ended = message.terminal

    def _push(self, frames: bytes) -> None:
        self._pending.append(frames)
        self._pending_bytes += len(frames)

    def _drop_pending(self) -> None:
        self._pending = []
        self._pending_bytes = 0
        self.position = self.sent


def _gap(cursor: EventId, earliest: EventId, latest: EventId, *, known: bool) -> bytes | None:
    """Write the gap frame, if the log can't serve this cursor.

    The cursor is ahead of the log, before its earliest event, or an event that Redis has lost although another
    execution has continued since.
    """
    # A cursor directly before the log's head can be served: nothing is missing. An empty log is served from its start.
    served = known or earliest in (cursor, cursor.next())
    return None if served else encode_gap(cursor, earliest, latest)
