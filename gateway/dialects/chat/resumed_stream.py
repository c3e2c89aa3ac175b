"""Return the rest of a stream of chunks to a caller that lost its connection. Pure, as the stream itself is.

Not here: the whole stream (chunk_stream.py), HTTP, time.
"""

from gateway.dialects.chat.chunk_id import ChunkId, after
from gateway.dialects.chat.chunk_stream import ChunkStream, error_frame, lost
from gateway.dialects.errors import Failure
from shared.model.events import START, Event, EventId, EventType


class ResumedStream:
    """Return the chunks after `cursor`, for a caller that has all chunks before; see `ChunkStream`.

    The whole `stream` is translated from the job's first event. `shown`: this caller was sent a chunk now.
    """

    def __init__(self, stream: ChunkStream, cursor: ChunkId) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._stream = stream
        self._cursor = cursor
        self._reached = cursor.event == START

    def translate(self, event: Event) -> bytes:
        """Return the chunks of this event that follow the cursor."""
        if self.ended:
            return b""
        frames = self._stream.translate(event)
        self.ended = self._stream.ended
        if self._stream.failure is not None:
            self.failure = self._stream.failure
            return frames if self.shown else b""
        rest = self._after_cursor(frames, event.id or START)
        self.shown = self.shown or bool(rest)
        return rest

    def failure_frame(self) -> bytes:
        """Return the failure's frame: see `ChunkStream`."""
        return b"" if self.failure is None else error_frame(self.failure)

    def interruption(self, failure: Failure) -> bytes:
        """Write the reason why the stream breaks off here, although its job continues."""
        return error_frame(failure)

    def _after_cursor(self, frames: bytes, event_id: EventId) -> bytes:
        if self._reached:
            return frames
        if event_id < self._cursor.event:
            return b""
        self._reached = True
        if event_id == self._cursor.event:
            return after(frames, self._cursor.part)
        # Redis has lost events that the caller was shown.
        self.ended = True
        self.failure = lost(EventType.GAP)
        return b""
