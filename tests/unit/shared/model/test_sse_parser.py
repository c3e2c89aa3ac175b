"""Test Server-Sent Events in pieces: the same events result from any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.errors import EventTooLarge
from shared.model.sse_parser import EventReader, SentEvent

MUCH = 1 << 20
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    """Cut the stream into pieces, some of them empty."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


NAMES = st.sampled_from(["delta", "completed", "message"])
IDS = st.none() | st.sampled_from(["1-1", "12-345"])
DATA = st.lists(st.sampled_from([b"{}", b' {"a": "b: c"}', b"", b"caf\xc3\xa9"]), min_size=1, max_size=3)
SENT = st.builds(SentEvent, NAMES, DATA.map(b"\n".join), IDS)


@given(st.data(), st.lists(SENT, max_size=5), ENDS)
def test_however_a_stream_is_cut_the_same_events_come_out(
    data: st.DataObject, events: list[SentEvent], end: str
) -> None:
    lines: list[bytes] = []
    for event in events:
        lines += [b": hb", b"data: " + event.data.replace(b"\n", b"\ndata: ")]
        lines += [] if event.name == "message" else [b"event: " + event.name.encode()]
        lines += [] if event.id is None else [b"id: " + event.id.encode()]
        lines += [b""]
    stream = b"".join(line.replace(b"\n", end.encode()) + end.encode() for line in [*lines, b": bye"])
    reader = EventReader(MUCH)

    assert [event for piece in cut(data, stream) for event in reader.feed(piece)] == events


def datas(stream: bytes) -> list[bytes]:
    """Return the data of the events of a whole stream."""
    return [event.data for event in EventReader(MUCH).feed(stream)]


def test_data_on_several_lines_is_one_event() -> None:
    assert datas(b'data: {"a":\ndata: 1}\n\ndata: [DONE]\n\n') == [b'{"a":\n1}', b"[DONE]"]


def test_an_event_that_its_stream_cuts_off_never_comes() -> None:
    assert EventReader(MUCH).feed(b"data: 1\n\ndata: 2\nid: 1-2\n") == [SentEvent("message", b"1", None)]


def test_an_event_has_only_its_own_fields() -> None:
    events = EventReader(MUCH).feed(b"event: delta\ndata: 1\nid: 1-1\n\ndata: 2\n\n")

    assert events == [SentEvent("delta", b"1", "1-1"), SentEvent("message", b"2", None)]


def test_a_block_without_data_is_not_an_event_and_leaves_nothing_behind() -> None:
    assert EventReader(MUCH).feed(b"event: delta\nid: 1-1\n\ndata: 2\n\n") == [SentEvent("message", b"2", None)]


def test_unknown_fields_and_invalid_ids_are_left_out() -> None:
    stream = b"event\nflavour: mint\n: data: no\ndata:x\nid: 1\x002\nretry: soon\nretry: 9999999999\n\n"
    reader = EventReader(MUCH)

    assert reader.feed(stream) == [SentEvent("message", b"x", None)]
    assert reader.retry_ms is None


def test_the_time_to_return_needs_no_event() -> None:
    reader = EventReader(MUCH)

    assert reader.feed(b"retry: 1234\n\n") == []
    assert reader.retry_ms == 1234


def test_a_byte_order_mark_at_the_start_is_removed() -> None:
    assert datas(b"\xef\xbb\xbfdata: first\n\n\xef\xbb\xbfdata: second\n\ndata: third\n\n") == [b"first", b"third"]


def test_an_event_whose_data_is_empty_is_one() -> None:
    assert datas(b"data:\n\ndata\n\ndata: \n\nevent: ping\n\n: hb\n\ndata:\ndata:\n\n") == [b"", b"", b"", b"\n"]


def test_bytes_that_are_not_utf_8_are_replaced_and_never_an_error() -> None:
    (event,) = EventReader(MUCH).feed(b"event: \xff\ndata: a\xffb \xe2\x82\nid: \xc3\n\n")

    assert (event.name, event.text, event.id) == ("\ufffd", "a\ufffdb \ufffd", "\ufffd")
    assert event.data == b"a\xffb \xe2\x82"


def test_a_cut_through_the_end_of_a_line_is_not_an_empty_line() -> None:
    reader = EventReader(MUCH)

    assert [reader.feed(piece) for piece in (b"data: a\r", b"\ndata: b\r", b"\n")] == [[], [], []]
    assert reader.feed(b"\r\n") == [SentEvent("message", b"a\nb", None)]


def test_a_lone_carriage_return_ends_an_event_without_waiting_for_more() -> None:
    reader = EventReader(MUCH)

    assert reader.feed(b"data: 1\r\r") == [SentEvent("message", b"1", None)]
    assert reader.feed(b"\ndata: 2\r\n\r") == [SentEvent("message", b"2", None)]
    assert reader.feed(b"") == []
    assert reader.feed(b"\n") == []


def test_comments_do_not_count_against_an_event() -> None:
    reader = EventReader(100)
    for _ in range(100):
        assert reader.feed(b": still here\n\n") == []
    assert len(reader.feed(b"data: 1\n\n")) == 1


def test_events_do_not_add_up() -> None:
    reader = EventReader(100)
    assert [len(reader.feed(b"data: 1\n\n")) for _ in range(100)] == [1] * 100


def test_lines_add_up_to_an_event() -> None:
    reader = EventReader(100)
    for _ in range(12):
        assert reader.feed(b"data: 1\n") == []
    with pytest.raises(EventTooLarge, match="An event of over 100 bytes"):
        reader.feed(b"data: 1\n" * 3)


def test_a_line_without_an_end_is_bounded() -> None:
    reader = EventReader(100)
    reader.feed(b"x" * 100)
    with pytest.raises(EventTooLarge):
        reader.feed(b"x")


def test_a_large_event_in_one_piece_is_bounded() -> None:
    with pytest.raises(EventTooLarge):
        EventReader(100).feed(b"data: %b\n\n" % (b"x" * 100))


def test_names_and_ids_count_too() -> None:
    with pytest.raises(EventTooLarge):
        EventReader(100).feed(b"event: %b\nid: %b\ndata: 1\n\n" % (b"x" * 50, b"y" * 50))
