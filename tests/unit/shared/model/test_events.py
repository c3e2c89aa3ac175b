"""Test frames, ids and cursors."""

import json

import pytest

from shared.model.errors import BadCursor
from shared.model.events import (
    START,
    TERMINAL_EVENTS,
    Event,
    EventId,
    EventType,
    after_cursor,
    data_size,
    decode_frame,
    encode_data,
    encode_frame,
    encode_gap,
    encode_in_pieces,
    first_id,
    is_terminal,
    last_id,
    parse_cursor,
    parse_id,
    split_frames,
)
from shared.model.text import whole

PARIS = b'event: delta\ndata: {"content":" Paris"}\nid: 1-17\n\n'


def delta(seq: int, text: str = "x", epoch: int = 1) -> bytes:
    return encode_frame(EventType.DELTA, encode_data({"content": text}), EventId(epoch, seq))


def test_a_frame_is_the_exact_bytes_a_browser_reads_with_its_id_last() -> None:
    assert encode_frame(EventType.DELTA, encode_data({"content": " Paris"}), EventId(1, 17)) == PARIS


def test_a_frame_is_decoded_into_the_encoded_parts() -> None:
    event = decode_frame(PARIS)

    assert event == Event(EventType.DELTA, EventId(1, 17), b'{"content":" Paris"}')
    assert event.json() == {"content": " Paris"}


def test_a_gap_has_no_id_so_that_it_moves_no_cursor() -> None:
    gap = decode_frame(encode_gap(EventId(1, 9), EventId(2, 1), EventId(2, 4)))

    assert (gap.type, gap.id) == (EventType.GAP, None)
    assert gap.json() == {"requested": "1-9", "earliest": "2-1", "latest": "2-4"}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b": hb\n\n",
        b"data: {}\nevent: delta\nid: 1-1\n\n",
        b"event: delta\nid: 1-1\n\n",
        b"event: unheard-of\ndata: {}\nid: 1-1\n\n",
    ],
)
def test_bytes_that_are_not_a_frame_are_refused(frame: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which of its kinds does not matter
        decode_frame(frame)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_no_word_for_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_data({"logprob": number})


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x85", "\r", "\n\n", "\ud83d", "\x00", "data: [DONE]\n\n", "ä"])
def test_no_text_can_tear_a_frame(text: str) -> None:
    frame = delta(1, text)

    assert frame.isascii()
    assert frame.decode().splitlines()[1:] == [f"data: {encode_data({'content': text}).decode()}", "id: 1-1", ""]
    assert decode_frame(frame).json() == {"content": whole(text)}


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 3000])
def test_an_object_in_pieces_is_the_same_object(count: int) -> None:
    data = {"a": list(range(count)), "b": {"c": "\ud83d"}, "é": [[1], None]}

    assert encode_in_pieces(data) == encode_data(data)


def test_an_object_in_pieces_has_no_number_that_json_has_no_word_for() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_in_pieces({"a": [float("nan")] * 2000})


# Ids and cursors.


@pytest.mark.parametrize("text", ["1-17", b"1-17"], ids=["text", "bytes"])
def test_an_id_is_read_from_text_or_bytes(text: str | bytes) -> None:
    assert parse_id(text) == EventId(1, 17)


def test_ids_are_ordered_as_the_log_is_and_not_as_text() -> None:
    assert EventId(1, 9) < EventId(1, 10) < EventId(2, 1) < EventId(10, 1)
    assert EventId(1, 9).next() == EventId(1, 10)
    assert str(EventId(1, 10)) == "1-10"


@pytest.mark.parametrize("text", [None, "", "0", "-1"])
def test_a_missing_cursor_minus_one_and_zero_mean_the_start(text: str | None) -> None:
    assert parse_cursor(text) == START


@pytest.mark.parametrize("cursor", [EventId(3, 4), EventId(0, 0), EventId(2**64 - 2, 2**64 - 2)])
def test_a_cursor_is_an_event_id(cursor: EventId) -> None:
    assert parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "1", "-", "1-", "-17", "-2", "--1", "1-2-3", "1--2", "+1-2", "1 -2", " 1-2", "1-2\n", "1_0-2", "0x1-2", "1.0-2",
        "a-b", "\u0661-\u0662", "\ud800", "18446744073709551616-1", "1-18446744073709551616", "1-18446744073709551615",
        "1-" + "0" * 21, "9" * 5000,
    ],
)  # fmt: skip
def test_a_malformed_cursor_is_refused_and_the_field_named(text: str) -> None:
    with pytest.raises(BadCursor, match="<epoch>-<seq>") as refusal:
        parse_cursor(text)

    assert refusal.value.param == "last_event_id"


# Entries.


def test_the_first_and_the_last_id_of_an_entry_are_read() -> None:
    entry = delta(9) + delta(10) + delta(11, "\nid: 7-7\n\n")

    assert (first_id(entry), last_id(entry)) == (EventId(1, 9), EventId(1, 11))


def test_a_frames_data_is_measured_without_decoding_it() -> None:
    for data in ({}, {"content": "\n\nid: 1-1\n"}, "x" * 1000):
        frame = encode_frame(EventType.DELTA, encode_data(data), EventId(1, 17))
        assert data_size(frame) == len(decode_frame(frame).data)


def test_an_entry_splits_into_its_frames() -> None:
    frames = [delta(1), delta(2, "\n\n"), delta(3)]

    assert list(split_frames(b"".join(frames))) == frames
    assert list(split_frames(b"")) == []


@pytest.mark.parametrize("tail", [b"event: delta", delta(2)[:-1], b"\n"])
def test_an_entry_with_half_a_frame_is_refused(tail: bytes) -> None:
    with pytest.raises(ValueError, match="whole frames"):
        list(split_frames(delta(1) + tail))


@pytest.mark.parametrize(
    ("cursor", "seen"),
    [(START, 0), (EventId(0, 99), 0), (EventId(1, 3), 0), (EventId(1, 4), 1), (EventId(1, 5), 2), (EventId(2, 0), 3)],
)
def test_a_cursor_inside_an_entry_gets_only_the_later_events(cursor: EventId, seen: int) -> None:
    frames = [delta(4), delta(5), delta(6)]

    assert after_cursor(b"".join(frames), cursor) == b"".join(frames[seen:])


@pytest.mark.parametrize("event", EventType)
def test_exactly_the_terminal_events_are_terminal(event: EventType) -> None:
    frame = encode_frame(event, encode_data({"content": "event: failed\n"}), EventId(1, 2))

    assert is_terminal(frame) == (event in TERMINAL_EVENTS)


def test_the_terminal_events_are_called_as_the_terminal_states_are() -> None:
    assert {event.value for event in TERMINAL_EVENTS} == {"completed", "failed", "cancelled", "expired"}


HIGH, LOW = "\ud83d", "\ude00"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (HIGH, rb'"\ufffd"'),
        (LOW + HIGH, rb'"\ufffd\ufffd"'),
        ({"a" + LOW: [HIGH + "x", 1]}, rb'{"a\ufffd":["\ufffdx",1]}'),
        ("\\" + HIGH, rb'"\\\ufffd"'),
        ("\\ud83d" + LOW, rb'"\\ud83d\ufffd"'),
        (HIGH + LOW + LOW, rb'"\ud83d\ude00\ufffd"'),
        ("\U0001f600\\ud800", rb'"\ud83d\ude00\\ud800"'),
        ("\n\ud55c", rb'"\n\ud55c"'),
    ],
)
def test_no_half_of_a_character_is_ever_encoded(value: object, encoded: bytes) -> None:
    assert encode_data(value) == encoded
    json.loads(encoded.decode())
