"""Test bodies: a JSON object of a bounded size, or a sentence that names the fault."""

import json
import traceback
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.http.bodies import MAX_DEPTH, AsciiJSONResponse, read_json
from shared.model.bounds import CONTAINERS
from shared.model.errors import BodyTooLarge, InvalidRequest

LIMIT = 1000


def request(parts: Iterable[bytes], *, leaves: bool = False) -> Request:
    """Build a request with a body in these parts; a client that leaves does so before the last part."""
    end: Message = {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b""}
    waiting = iter(parts)

    async def receive() -> Message:
        part = next(waiting, None)
        return end if part is None else {"type": "http.request", "body": part, "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(body: bytes) -> dict[str, Any]:
    return await read_json(request([body]), LIMIT)


async def read_large(body: bytes) -> dict[str, Any]:
    return await read_json(request([body]), len(body))


def nested(depth: int) -> bytes:
    """Build an object in which the lists and objects are so deep."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


async def test_an_object_is_read_from_as_many_parts_as_it_comes_in() -> None:
    assert await read_json(request([b'{"a"', b":", b"1}"]), LIMIT) == {"a": 1}


async def test_a_body_costs_its_size_however_small_its_parts_are() -> None:
    size = 64 * 1024
    body = json.dumps({"a": "x" * (size - 9)}).encode()
    # Made while they are read, as by a socket.
    parts = (bytes(body[at : at + 2]) for at in range(0, size, 2))
    tracemalloc.start()
    try:
        await read_json(request(parts), size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 6 * size


async def test_all_of_unicode_passes() -> None:
    text = "naïve 東京 🌊 \u2028 \x00 \r\n"
    assert await read(json.dumps({"a": text}).encode()) == {"a": text}
    assert await read(json.dumps({"a": text}, ensure_ascii=False).encode()) == {"a": text}


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
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be JSON"):
        await read_json(request([body]), 10 * LIMIT)


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
async def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        await read(body)


@pytest.mark.parametrize("where", ['{"a": "\\ud83c"}', '{"a": ["x\\udf0ay"]}', '{"\\ud800": 1}'])
async def test_half_a_character_is_refused(where: str) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        await read(where.encode())


async def test_both_halves_of_a_character_are_one() -> None:
    assert await read(b'{"a": "\\ud83c\\udf0a"}') == {"a": "🌊"}


async def test_a_body_may_be_nested_as_deep_as_anybody_needs() -> None:
    assert await read(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 1_000, 100_000])
async def test_a_body_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest, match=f"nested at most {MAX_DEPTH} levels"):
        await read_json(request([nested(depth)]), 1_000_000)


@pytest.mark.parametrize("piece", [b"{}", b"[]", b"[[]]"], ids=["objects", "lists", "lists in lists"])
async def test_a_body_with_too_many_objects_and_lists_is_refused(piece: bytes) -> None:
    each = piece.count(b"[") + piece.count(b"{")
    most = (CONTAINERS - 2) // each  # the body is one of them, and its list another

    assert len((await read_large(b'{"a":[%b]}' % b",".join([piece] * most)))["a"]) == most
    with pytest.raises(InvalidRequest, match=f"at most {CONTAINERS} objects and lists"):
        await read_large(b'{"a":[%b]}' % b",".join([piece] * (most + 1)))


async def test_a_refusal_keeps_nothing_of_the_body() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read_large(b'{"a":[%b]}' % b",".join([b"[]"] * CONTAINERS))

    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert not [
        value for frame in frames for value in frame.f_locals.values() if isinstance(value, dict) and "a" in value
    ]


async def test_brackets_in_a_text_are_no_lists() -> None:
    assert await read_large(b'{"a":"%b"}' % (b"[{" * CONTAINERS))


async def test_a_body_of_just_the_limit_is_read() -> None:
    body = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(body) == LIMIT
    assert await read(body)


async def test_a_body_over_the_limit_is_refused_whole() -> None:
    with pytest.raises(BodyTooLarge, match="at most 1000 bytes"):
        await read_json(request([b" "] * (LIMIT + 1)), LIMIT)


async def test_a_body_over_the_limit_is_read_to_its_end_so_that_the_client_hears_the_answer() -> None:
    parts = iter([b"x" * LIMIT] * 5)
    with pytest.raises(BodyTooLarge):
        await read_json(request(parts), LIMIT)
    assert list(parts) == []


async def test_a_client_that_leaves_in_the_middle_is_told_nothing() -> None:
    with pytest.raises(ClientDisconnect):
        await read_json(request([b"{"], leaves=True), LIMIT)


def test_an_answer_is_ascii_with_whole_characters() -> None:
    response = AsciiJSONResponse({"a": "\ud83c" + "\udf0a", "b": "東京"})
    assert response.body == b'{"a":"\\ud83c\\udf0a","b":"\\u6771\\u4eac"}'
    assert json.loads(bytes(response.body))["a"] == "🌊"
    assert response.headers["content-type"] == "application/json"
