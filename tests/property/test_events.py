"""Test frames of any content: decoding returns the encoded event, and no client can be made to see anything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.errors import BadCursor
from shared.model.events import (
    TERMINAL_EVENTS,
    EventId,
    EventType,
    after_cursor,
    decode_frame,
    encode_data,
    encode_frame,
    first_id,
    is_terminal,
    last_id,
    parse_cursor,
    parse_id,
    split_frames,
)

# Line breaks of any kind, halves of characters, and words of the protocols themselves.
AWKWARD = [
    "\n", "\r", "\r\n", "\n\n", "\x85", "\u2028", "\u2029", "\x00", "\ufeff", "\ud83d", "\udc00", "\ud83d\ude00",
    "data: ", "data: [DONE]\n\n", "[DONE]", "\nid: 9-9\n\n", "event: completed\n", ": hb\n", "</script>", "{}",
]  # fmt: skip
texts = st.lists(st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=()), max_size=5), max_size=6).map(
    "".join
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
halves = st.integers(0, 2**64 - 2)
ids = st.builds(EventId, halves, halves)
events = st.sampled_from([event for event in EventType if event is not EventType.GAP])


@st.composite
def entries(draw: st.DrawFn) -> list[bytes]:
    """Generate the frames of one entry: neighbours in one epoch."""
    epoch, first = draw(st.integers(1, 10**9)), draw(st.integers(1, 10**9))
    contents = draw(st.lists(values, min_size=1, max_size=6))
    return [
        encode_frame(EventType.DELTA, encode_data(content), EventId(epoch, seq))
        for seq, content in enumerate(contents, first)
    ]


def in_json(value: Any) -> Any:
    """Return the value as JSON reads it: adjacent halves of a character form it, a lone half is replaced."""
    return in_whole_characters(json.loads(json.dumps(value)))


def in_whole_characters(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [in_whole_characters(each) for each in value]
        case dict():
            return {in_whole_characters(name): in_whole_characters(each) for name, each in value.items()}
        case _:
            return value


def parse_as_a_browser(frame: bytes) -> list[tuple[str, str, str]]:
    """Parse type, data and id of each event, as WHATWG HTML §9.2.6 reads a stream."""
    found: list[tuple[str, str, str]] = []
    data: list[str] = []
    event = last_event_id = ""
    for line in frame.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((event, "\n".join(data), last_event_id))
            event, data = "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_event_id = value
    return found


@given(events, values, ids)
def test_a_frame_is_decoded_into_the_encoded_parts(event: EventType, value: Any, event_id: EventId) -> None:
    frame = encode_frame(event, encode_data(value), event_id)

    decoded = decode_frame(frame)

    assert (decoded.type, decoded.id) == (event, event_id)
    assert decoded.json() == in_json(value)
    assert encode_frame(decoded.type, decoded.data, event_id) == frame


@given(events, values, ids)
def test_a_browser_sees_one_event_with_this_type_data_and_id(event: EventType, value: Any, event_id: EventId) -> None:
    frame = encode_frame(event, encode_data(value), event_id)

    ((seen, data, last_event_id),) = parse_as_a_browser(frame)

    assert (seen, last_event_id) == (event.value, str(event_id))
    assert json.loads(data) == in_json(value)


@given(values)
def test_data_is_one_line_of_ascii(value: Any) -> None:
    data = encode_data(value)

    assert data.isascii()
    assert len(data.decode().splitlines()) == 1


@given(st.recursive(st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.lists, max_leaves=3).filter(bool))
def test_no_number_without_a_word_in_json_is_ever_sent(value: Any) -> None:
    if "NaN" in json.dumps(value) or "Infinity" in json.dumps(value):
        with pytest.raises(ValueError, match="JSON compliant"):
            encode_data({"value": value})


@given(entries(), st.integers(-2, 8))
def test_a_cursor_anywhere_gets_exactly_the_frames_after_it(frames: list[bytes], offset: int) -> None:
    entry = b"".join(frames)
    first = first_id(frames[0])
    cursor = EventId(first.epoch, max(first.seq + offset, 0))

    expected = [frame for frame in frames if first_id(frame) > cursor]
    assert list(split_frames(after_cursor(entry, cursor))) == expected
    assert after_cursor(entry, EventId(first.epoch - 1, 2**64 - 2)) == entry
    assert after_cursor(entry, EventId(first.epoch + 1, 0)) == b""


@given(entries())
def test_the_first_and_last_id_of_an_entry_are_read_without_splitting_it(frames: list[bytes]) -> None:
    entry = b"".join(frames)

    decoded = [decode_frame(frame).id for frame in split_frames(entry)]
    assert (first_id(entry), last_id(entry)) == (decoded[0], decoded[-1])
    assert list(split_frames(entry)) == frames


@given(events, values)
def test_an_event_is_terminal_by_its_type_only(event: EventType, value: Any) -> None:
    assert is_terminal(encode_frame(event, encode_data(value), EventId(1, 2))) == (event in TERMINAL_EVENTS)


@given(ids, ids)
def test_ids_read_back_as_written_and_are_ordered_as_numbers(one: EventId, other: EventId) -> None:
    assert parse_id(str(one)) == parse_id(str(one).encode()) == one
    assert parse_cursor(str(one)) == one
    assert (one < other) == ((one.epoch, one.seq) < (other.epoch, other.seq))


@given(st.text(st.characters(exclude_categories=()), max_size=12) | st.from_regex(r"[-+ 0-9_]{0,24}"))
def test_a_cursor_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except BadCursor:
        return
    assert text in ("", "0", "-1") or EventId(*map(int, text.split("-"))) == cursor
