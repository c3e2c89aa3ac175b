"""Read and write the SSE ids of a chat's chunks: the cursor with which a caller resumes. Pure.

One event may be several chunks. An id is written behind the data, and no heartbeat has a blank line, so that OpenAI's
clients ignore the ids. Not here: the chunks (chunk_stream.py), and the rest after a cursor (resumed_stream.py).
"""

from typing import Final, NamedTuple

from shared.model.errors import BadCursor
from shared.model.events import EventId, parse_id

FRAME_END: Final = b"\n\n"
_ID: Final = b"\nid: "
_PART_DIGITS: Final = 4


class ChunkId(NamedTuple):
    """The SSE id of a chunk: its event's id, and the chunk's number within the event unless it is the last one.

    `1-17` stands for all chunks of that event, `1-17.1` for the first of several.
    """

    event: EventId
    part: int | None = None

    def __str__(self) -> str:
        return f"{self.event}" if self.part is None else f"{self.event}.{self.part}"


def parse_chunk_id(text: str) -> ChunkId:
    """Read the id of a chunk.

    Raises:
        BadCursor: it is not the id of a chunk.
    """
    try:
        event, dot, part = text.partition(".")
        if dot and not (part.isascii() and part.isdecimal() and len(part) <= _PART_DIGITS and int(part)):
            raise BadCursor("The chunk id's part is not a number.")
        return ChunkId(parse_id(event), int(part) if dot else None)
    except BadCursor:
        raise BadCursor(
            "starting_after must be the SSE id of a chunk, as in 1-17 or 1-17.1.", param="starting_after"
        ) from None


def numbered(frames: bytes, event_id: EventId) -> bytes:
    """Add its id to each frame of one event."""
    chunks = frames.split(FRAME_END)[:-1]
    ids = [*(ChunkId(event_id, part) for part in range(1, len(chunks))), ChunkId(event_id)]
    return b"".join(chunk + _ID + str(id_).encode() + FRAME_END for chunk, id_ in zip(chunks, ids, strict=True))


def after(frames: bytes, part: int | None) -> bytes:
    """Return the frames of one event that follow this part, once they are `numbered`; those without an id always do."""
    each = frames.split(FRAME_END)[:-1]
    passed = sum(_ID in frame for frame in each) if part is None else part
    return b"".join(frame + FRAME_END for frame in each[passed:])
