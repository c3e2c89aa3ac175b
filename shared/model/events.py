r"""Encode and decode events, their ids and their frames, which readers receive as bytes.

A frame is the exact Server-Sent Event a browser reads, encoded once, in the worker:

    event: delta
    data: {"content":" Paris"}
    id: 1-17

`id:` comes last: some clients store the id when its line is parsed, and a cut before the blank line would then lose
the event. The data is ASCII-only JSON on one line, so the first `\nid: ` of a frame is its id line, and no client's
rule for line breaks can split the data (WHATWG HTML §9.2.6).
Pure. Not here: reading a stream of pieces (sse_parser.py), and the forms of the dialects (gateway/dialects).
"""

import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from shared.model.errors import BadCursor
from shared.model.text import is_whole


class EventType(StrEnum):
    """The names of the events of a job's log, and of the one that is never logged (`gap`)."""

    QUEUED = "queued"
    STARTED = "started"
    DELTA = "delta"
    PROGRESS = "progress"
    ROLLBACK = "rollback"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    GAP = "gap"


PIECES: frozenset[str] = frozenset({"token_ids"})
"""The further fields of a choice that add up over its deltas (vLLM's `return_token_ids`). Of others the last counts."""

TERMINAL_EVENTS: frozenset[EventType] = frozenset(
    {EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED}
)
_TERMINAL_HEADS = tuple(b"event: %s\n" % event.encode() for event in sorted(TERMINAL_EVENTS))
_ID_LINE = b"\nid: "
_DATA_LINE = b"\ndata: "
_FRAME_END = b"\n\n"
# Redis stores both halves of a stream id in 64 bits; the very last id has no successor that a read could begin at.
_MAX_HALF = 2**64 - 2


class EventId(NamedTuple):
    """`<epoch>-<seq>`: the Redis stream id, the SSE `id:` and the resume cursor. Ordered as the log is."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def next(self) -> "EventId":
        """Return the id that follows in the same epoch."""
        return EventId(self.epoch, self.seq + 1)


START = EventId(0, 0)
"""The cursor before the first event."""


def parse_id(text: str | bytes) -> EventId:
    """Read `<epoch>-<seq>`.

    Raises:
        BadCursor: anything else, numbers over 64 bits included.
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    epoch, dash, seq = raw.partition(b"-")
    if not (dash and _is_number(epoch) and _is_number(seq)):
        raise BadCursor("The cursor must be an event id, <epoch>-<seq>, as in 1-17.", param="last_event_id")
    return EventId(int(epoch), int(seq))


def parse_cursor(text: str | None) -> EventId:
    """Read a reader's cursor: an event id, or nothing, an empty text, `-1` or `0` for the start.

    Raises:
        BadCursor: it has another form.
    """
    if text is None or text in ("", "0", "-1"):
        return START
    return parse_id(text)


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= 20 and int(digits) <= _MAX_HALF


# Encoded texts that may hold a half of a character, and each of their escapes: a pair, a half, or another one.
_SURROGATE = re.compile(r"\\ud[89a-f]")
_ESCAPE = re.compile(r"\\ud[89ab]..\\ud[c-f]..|(?P<half>\\ud[89a-f]..)|\\.")
_PIECE_ITEMS = 1024
_unicode_encoder = json.JSONEncoder(ensure_ascii=False)
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode_data(data: Any) -> bytes:
    """Encode a value as the `data:` line of a frame: compact, ASCII-only JSON.

    A half of a surrogate pair becomes U+FFFD: Lua's cjson, and strict readers of JSON, refuse its escape.

    Raises:
        ValueError: a value that JSON can't express (NaN, infinity).
    """
    text = _encoder.encode(data)
    if _SURROGATE.search(text) and not is_whole(_unicode_encoder.encode(data)):
        text = _ESCAPE.sub(_whole_escape, text)
    return text.encode("ascii")


def encode_in_pieces(data: Mapping[str, Any]) -> bytes:
    """Encode an object as `encode_data` does, with its long lists in pieces: other threads run between them."""
    return b"{%s}" % b",".join(b"%s:%s" % (encode_data(name), _encode_list(data[name])) for name in data)


def _encode_list(value: Any) -> bytes:
    if not isinstance(value, list) or len(value) <= _PIECE_ITEMS:
        return encode_data(value)
    pieces = (value[at : at + _PIECE_ITEMS] for at in range(0, len(value), _PIECE_ITEMS))
    return b"[%s]" % b",".join(encode_data(piece)[1:-1] for piece in pieces)


def _whole_escape(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["half"] else escape[0]


def encode_frame(event: str, data: bytes, event_id: EventId) -> bytes:
    """Encode one whole frame; `data` is the result of `encode_data`, `event` an `EventType` or a function's own."""
    return b"event: %s\ndata: %s\nid: %d-%d\n\n" % (event.encode(), data, *event_id)


def encode_unlogged(event: EventType, data: bytes) -> bytes:
    """Encode a frame that is not in the log. It has no id, because the cursor must not move."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)


def encode_gap(requested: EventId, earliest: EventId, latest: EventId) -> bytes:
    """Encode the frame for a reader whose cursor can't be served."""
    data = encode_data({"requested": str(requested), "earliest": str(earliest), "latest": str(latest)})
    return encode_unlogged(EventType.GAP, data)


class Event(NamedTuple):
    """A decoded frame. `id` is None for frames that are never logged."""

    type: EventType
    id: EventId | None
    data: bytes

    def json(self) -> Any:
        """Decode the data."""
        return json.loads(self.data)


def data_size(frame: bytes) -> int:
    """Return the size of a logged frame's data without decoding the frame."""
    return frame.rindex(_ID_LINE) - frame.index(_DATA_LINE) - len(_DATA_LINE)


def split_frames(entry: bytes) -> Iterator[bytes]:
    """Yield the whole frames of a log entry or a live message, in order."""
    start = 0
    while (end := entry.find(_FRAME_END, start)) >= 0:
        yield entry[start : end + 2]
        start = end + 2
    if start != len(entry):
        raise ValueError("An entry must hold whole frames.")


def decode_frame(frame: bytes) -> Event:
    """Decode one frame.

    Raises:
        ValueError: these bytes were not made by `encode_frame` or `encode_gap`.
    """
    head, data, *rest = frame.removesuffix(_FRAME_END).split(b"\n")
    if not (head.startswith(b"event: ") and data.startswith(b"data: ")):
        raise ValueError("A frame starts with its event and data lines.")
    event_id = parse_id(rest[0].removeprefix(b"id: ")) if rest else None
    return Event(EventType(head[7:].decode("ascii")), event_id, data[6:])


def first_id(entry: bytes) -> EventId:
    """Return the id of an entry's first frame without decoding the entry."""
    at = entry.index(_ID_LINE) + len(_ID_LINE)
    return parse_id(entry[at : entry.index(_FRAME_END, at)])


def last_id(entry: bytes) -> EventId:
    """Return the id of an entry's last frame."""
    return parse_id(entry[entry.rindex(_ID_LINE) + len(_ID_LINE) : -len(_FRAME_END)])


def after_cursor(entry: bytes, cursor: EventId) -> bytes:
    """Return the part of this entry that lies after the cursor; a cursor may lie inside an entry."""
    if first_id(entry) > cursor:
        return entry
    return b"".join(frame for frame in split_frames(entry) if first_id(frame) > cursor)


def is_terminal(entry: bytes) -> bool:
    """Return whether this entry is a terminal event, which always is an entry of its own."""
    return entry.startswith(_TERMINAL_HEADS)
