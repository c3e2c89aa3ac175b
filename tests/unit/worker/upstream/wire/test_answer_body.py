"""Test bodies in any form, under any cut: the detected form, and the parts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.errors import EventTooLarge
from shared.model.sse_parser import EventReader, SentEvent
from worker.upstream.wire.answer_body import AnswerBody, WebPage, read_error_body

MUCH = 1 << 20
MARK = b"\xef\xbb\xbf"
PRETTY = json.dumps({"choices": [{"message": {"content": "Hi\n"}}], "usage": None}, indent=2).encode()


def read(*pieces: bytes, most: int = MUCH) -> list[bytes]:
    """Return the data of the parts of a body in these pieces."""
    body = AnswerBody(most)
    parts = [part for piece in pieces for part in body.feed(piece)]
    return [part.data for part in [*parts, *body.end()]]


BODIES: dict[str, tuple[bytes, list[bytes]]] = {
    "events": (b"data: 1\n\ndata: [DONE]\n\n", [b"1", b"[DONE]"]),
    "events after a mark": (MARK + b"data: 1\n\n", [b"1"]),
    "events after white space": (b"\r\n\r\n data: 1\n\n", [b"1"]),
    "events after a comment": (b": OPENROUTER PROCESSING\n\ndata: 1\n\n", [b"1"]),
    "an event that the end cuts off": (b"data: 1\n\ndata: 2\n", [b"1"]),
    "one line of JSON": (b'{"a": 1}', [b'{"a": 1}']),
    "one line of JSON with its end": (b'{"a": 1}\r\n', [b'{"a": 1}']),
    "lines of JSON": (
        b'{"a": 1}\n\n  {"a": 2}\r\n[DONE]\n{"a": 3}',
        [b'{"a": 1}', b'{"a": 2}', b"[DONE]", b'{"a": 3}'],
    ),
    "JSON after a mark and white space": (MARK + b' \n\t{"a": 1}', [b'{"a": 1}']),
    "JSON over many lines": (PRETTY, [PRETTY]),
    "JSON over many lines after white space": (b"\n \n\n" + PRETTY + b"\n", [PRETTY]),
    "a list": (b'[{"error":\n{}}]', [b'[{"error":\n{}}]']),
    "JSON that is cut off": (b'{"a": 1}\n{"b":', [b'{"a": 1}', b'{"b":']),
    "a text": (b"Internal Server Error", []),
    "nothing": (b"", []),
    "a mark": (MARK, []),
    "half a mark": (MARK[:2], []),
    "white space": (b" \r\n\t\n ", []),
}


@pytest.mark.parametrize(("body", "parts"), BODIES.values(), ids=BODIES.keys())
def test_a_body_is_read_by_its_first_byte(body: bytes, parts: list[bytes]) -> None:
    assert read(body) == parts


@given(st.sampled_from(list(BODIES.values())), st.lists(st.integers(0, 80), max_size=6))
def test_however_a_body_is_cut_the_same_parts_come_out(body: tuple[bytes, list[bytes]], cuts: list[int]) -> None:
    whole, parts = body
    at = sorted(min(cut, len(whole)) for cut in cuts)

    assert read(*(whole[start:stop] for start, stop in zip([0, *at], [*at, len(whole)], strict=True))) == parts


def test_lines_of_json_come_as_soon_as_they_are_complete() -> None:
    body = AnswerBody(MUCH)

    assert body.feed(b'{"a": 1}') == []
    assert body.feed(b'\n{"a": 2}\n{"a"') == [
        SentEvent("message", b'{"a": 1}', None),
        SentEvent("message", b'{"a": 2}', None),
    ]


def test_events_keep_their_names() -> None:
    assert AnswerBody(MUCH).feed(b'event: error\ndata: {"message": "No."}\n\n')[0].name == "error"


def test_a_long_stream_is_read_as_by_the_event_reader() -> None:
    stream = b"".join(b'id: %d\ndata: {"n": %d}\n\n' % (n, n) for n in range(100))
    body = AnswerBody(MUCH)

    parts = [part for start in range(0, len(stream), 7) for part in body.feed(stream[start : start + 7])]

    assert parts == EventReader(MUCH).feed(stream)


@pytest.mark.parametrize("body", [b"<!DOCTYPE html>", b" \n<html>", MARK + b"<?xml?>"])
def test_a_web_page_is_one(body: bytes) -> None:
    with pytest.raises(WebPage):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"data: " + b"x" * 100,
        b'{"a": "' + b"x" * 100,
        b'{"a": 1}\n{"b": "' + b"x" * 100 + b'"}\n{"c": 1}\n',
        b"[\n" + b"1,\n" * 50,
    ],
)
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_no_part_is_over_the_bound_while_it_comes(body: bytes, size: int) -> None:
    reader = AnswerBody(100)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]

    with pytest.raises(EventTooLarge):
        _ = [reader.feed(piece) for piece in pieces]


def test_lines_of_json_and_white_space_do_not_add_up() -> None:
    assert read(*[b" " * 1000] * 10, *[b'{"a": 1}\n'] * 100, most=100) == [b'{"a": 1}'] * 100


@pytest.mark.parametrize(
    ("body", "foreign"),
    [
        (b"Internal Server Error", True),
        (b"1732999999\n\n", True),
        (b'"oops"', True),
        (b"", False),
        (b"\n\n", False),
        (b": hb\n\n", False),
        (b"data: 1", False),
        (b"event: ping\n", False),
        (b'{"a": 1}', False),
    ],
)
def test_a_body_in_no_known_form_is_foreign(body: bytes, foreign: bool) -> None:
    reader = AnswerBody(MUCH)
    reader.feed(body)

    assert reader.is_foreign == foreign


def test_the_beginning_is_kept_and_no_more() -> None:
    body = AnswerBody(MUCH)
    for piece in (MARK, b"\n Inter", b"nal \xff", b"x" * 1000):
        body.feed(piece)

    assert body.beginning.startswith("Internal \ufffdxxx")
    assert len(body.beginning) == 200


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b'{"error": "No."}', {"error": "No."}),
        (b'[{"error": "No."}]', [{"error": "No."}]),
        (b'event: error\ndata: {"error": "No."}\n\n', {"error": "No."}),
        (b"data: No.\n\n", "data: No.\n\n"),
        (b"slow \xff down", "slow \ufffd down"),
        (b'{"half', '{"half'),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_the_body_of_an_error_is_its_json_or_its_text(content: bytes, read: object) -> None:
    assert read_error_body(content, MUCH) == read
