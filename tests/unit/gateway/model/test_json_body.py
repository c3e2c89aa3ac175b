"""Test the decoding of bodies: a JSON object, or a sentence that names the fault."""

import gc
import json
import traceback

import pytest

from gateway.model.json_body import MAX_DEPTH, decode_object, decode_optional_object
from shared.model.bounds import CONTAINERS
from shared.model.errors import InvalidRequest


def nested(depth: int) -> bytes:
    """Build an object in which the lists and objects are so deep."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_any_unicode_text_passes() -> None:
    text = "naïve 東京 🌊 \u2028 \x00 \r\n"
    assert decode_object(json.dumps({"a": text}).encode()) == {"a": text}
    assert decode_object(json.dumps({"a": text}, ensure_ascii=False).encode()) == {"a": text}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{'a': 1}", id="quotes"),
        pytest.param(b'{"a": 1,}', id="comma"),
        pytest.param(b'{"a": 1} x', id="more after it"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": 1e999}', id="a number that is as good as infinite"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="a number that nobody can mean"),
        pytest.param(b'{"a": "\n"}', id="a line break in a text"),
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be JSON"):
        decode_object(body)


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        decode_object(body)


@pytest.mark.parametrize("where", ['{"a": "\\ud83c"}', '{"a": ["x\\udf0ay"]}', '{"\\ud800": 1}'])
def test_half_a_character_is_refused(where: str) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        decode_object(where.encode())


def test_both_halves_of_a_character_are_one() -> None:
    assert decode_object(b'{"a": "\\ud83c\\udf0a"}') == {"a": "🌊"}


def test_a_body_may_be_nested_up_to_the_bound() -> None:
    assert decode_object(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 1_000, 100_000])
def test_a_body_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest, match=f"nested at most {MAX_DEPTH} levels"):
        decode_object(nested(depth))


@pytest.mark.parametrize("piece", [b"{}", b"[]", b"[[]]"], ids=["objects", "lists", "lists in lists"])
def test_a_body_with_too_many_objects_and_lists_is_refused(piece: bytes) -> None:
    each = piece.count(b"[") + piece.count(b"{")
    most = (CONTAINERS - 2) // each  # the body is one of them, and its list another

    assert len((decode_object(b'{"a":[%b]}' % b",".join([piece] * most)))["a"]) == most
    with pytest.raises(InvalidRequest, match=f"at most {CONTAINERS} objects and lists"):
        decode_object(b'{"a":[%b]}' % b",".join([piece] * (most + 1)))


def test_a_refusal_keeps_nothing_of_the_body() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(b'{"a":[%b]}' % b",".join([b"[]"] * CONTAINERS))

    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert not [
        value for frame in frames for value in frame.f_locals.values() if isinstance(value, dict) and "a" in value
    ]


def test_brackets_in_a_text_do_not_count_as_nesting() -> None:
    assert decode_object(b'{"a":"%b"}' % (b"[{" * CONTAINERS))


def test_an_absent_body_is_an_empty_object_if_it_is_optional() -> None:
    assert decode_optional_object(b"") == {}
    assert decode_optional_object(b'{"a":1}') == {"a": 1}
    with pytest.raises(InvalidRequest, match="must be JSON"):
        decode_optional_object(b" ")


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was(collects: bool) -> None:
    was = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        decode_object(b"{}")
        with pytest.raises(InvalidRequest):
            decode_object(b"[")
        assert gc.isenabled() is collects
    finally:
        (gc.enable if was else gc.disable)()
