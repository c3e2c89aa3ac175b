"""Test the reading of bodies of a bounded size, and the writing of JSON."""

import json
import tracemalloc
from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.http.bodies import AsciiJSONResponse, read_body
from shared.model.errors import BodyTooLarge

LIMIT = 1000


def request(parts: Iterable[bytes], *, leaves: bool = False) -> Request:
    """Build a request with a body in these parts; a client that leaves does so before the last part."""
    end: Message = {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b""}
    waiting = iter(parts)

    async def receive() -> Message:
        part = next(waiting, None)
        return end if part is None else {"type": "http.request", "body": part, "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_body_is_read_from_as_many_parts_as_it_comes_in() -> None:
    assert await read_body(request([b'{"a"', b":", b"1}"]), LIMIT) == b'{"a":1}'


async def test_a_body_costs_its_size_however_small_its_parts_are() -> None:
    size = 64 * 1024
    body = json.dumps({"a": "x" * (size - 9)}).encode()
    # Made while they are read, as by a socket.
    parts = (bytes(body[at : at + 2]) for at in range(0, size, 2))
    tracemalloc.start()
    try:
        await read_body(request(parts), size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 6 * size


async def test_a_body_of_just_the_limit_is_read() -> None:
    body = b"x" * LIMIT
    assert await read_body(request([body]), LIMIT) == body


async def test_a_body_over_the_limit_is_refused_whole() -> None:
    with pytest.raises(BodyTooLarge, match="at most 1000 bytes"):
        await read_body(request([b" "] * (LIMIT + 1)), LIMIT)


async def test_a_body_over_the_limit_is_read_to_its_end_so_that_the_client_gets_the_answer() -> None:
    parts = iter([b"x" * LIMIT] * 5)
    with pytest.raises(BodyTooLarge):
        await read_body(request(parts), LIMIT)
    assert list(parts) == []


async def test_a_client_that_disconnects_in_the_middle_gets_no_answer() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(request([b"{"], leaves=True), LIMIT)


def test_an_answer_is_ascii_with_whole_characters() -> None:
    response = AsciiJSONResponse({"a": "\ud83c" + "\udf0a", "b": "東京"})
    assert response.body == b'{"a":"\\ud83c\\udf0a","b":"\\u6771\\u4eac"}'
    assert json.loads(bytes(response.body))["a"] == "🌊"
    assert response.headers["content-type"] == "application/json"
