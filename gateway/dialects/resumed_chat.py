"""The rest of a chat's stream, for a caller who was cut off; as pure as the stream itself.

Above: api/chat_completions.py. Below: dialects/chat.py, which makes the whole stream. Not here: HTTP, time.
"""

from gateway.dialects.chat import ChatOptions, ChatStream, error_frame, lost
from gateway.dialects.chunk_id import ChunkId, after
from gateway.dialects.openai_errors import Failure
from shared.events import START, Event, EventId, EventType


class ResumedChat:
    """A stream of chunks from the one after `cursor` on, for a caller who has all before; see `ChatStream`.

    It is folded from the job's first event all the same. `shown` is what this caller has been shown now.
    """

    def __init__(self, options: ChatOptions, cursor: ChunkId) -> None:
        self.shown = False
        self.ended = False
        self.failure: Failure | None = None
        self._stream = ChatStream(options)
        self._cursor = cursor
        self._reached = cursor.event == START

    def translate(self, event: Event) -> bytes:
        """What of this event comes after the cursor."""
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
        """See `ChatStream`."""
        return b"" if self.failure is None else error_frame(self.failure)

    def _after_cursor(self, frames: bytes, event_id: EventId) -> bytes:
        if self._reached:
            return frames
        if event_id < self._cursor.event:
            return b""
        self._reached = True
        if event_id == self._cursor.event:
            return after(frames, self._cursor.part)
        # Redis has forgotten what the caller was shown.
        self.ended = True
        self.failure = lost(EventType.GAP)
        return b""
