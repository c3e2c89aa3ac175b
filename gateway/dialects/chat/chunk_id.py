"""The SSE ids of a chat's chunks: the cursor with which a caller comes back.

Above: chunk_stream.py writes them, resumed_stream.py continues after one. Below: the ids of events, of which one may be
several chunks. They stand behind the data, and no heartbeat has a blank line: so OpenAI's clients pass over them. Pure.
"""

from typing import Final, NamedTuple

from shared.model.errors import BadCursor
from shared.model.events import EventId, parse_id

FRAME_END: Final = b"\n\n"
_ID: Final = b"\nid: "
_PART_DIGITS: Final = 4


class ChunkId(NamedTuple):
    """The SSE id of a chunk: its event's, and which of the event's chunks it is, where it is not the last of them.

    `1-17` stands for all chunks of that event, `1-17.1` for the first of several.
    """

    event: EventId
    part: int | None = None

    def __str__(self) -> str:
        return f"{self.event}" if self.part is None else f"{self.event}.{self.part}"


def parse_chunk_id(text: str) -> ChunkId:
    """Read the id of a chunk.

    Raises:
        BadCursor: it is none.
    """
    try:
        event, dot, part = text.partition(".")
        if dot and not (part.isascii() and part.isdecimal() and len(part) <= _PART_DIGITS and int(part)):
            raise BadCursor("The part of the chunk id is not a number.")
        return ChunkId(parse_id(event), int(part) if dot else None)
    except BadCursor:
        raise BadCursor(
            "starting_after is the SSE id of a chunk, as in 1-17 or 1-17.1.", param="starting_after"
        ) from None


def numbered(frames: bytes, event_id: EventId) -> bytes:
    """The frames of one event, each with its id."""
    chunks = frames.split(FRAME_END)[:-1]
    ids = [*(ChunkId(event_id, part) for part in range(1, len(chunks))), ChunkId(event_id)]
    return b"".join(chunk + _ID + str(id_).encode() + FRAME_END for chunk, id_ in zip(chunks, ids, strict=True))


def after(frames: bytes, part: int | None) -> bytes:
    """What of one event's frames, once they are `numbered`, follows this part; what has no id always does."""
    each = frames.split(FRAME_END)[:-1]
    passed = sum(_ID in frame for frame in each) if part is None else part
    return b"".join(frame + FRAME_END for frame in each[passed:])
