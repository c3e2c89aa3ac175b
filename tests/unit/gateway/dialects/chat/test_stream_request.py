"""Test how an answer is streamed, read from its request or from a later query."""

from typing import Any

import pytest

from gateway.dialects.chat.chunk_id import ChunkId
from gateway.dialects.chat.stream_request import resumed_at, wants_stream
from shared.model.errors import BadCursor, InvalidRequest
from shared.model.events import EventId


@pytest.mark.parametrize(
    ("body", "streams"),
    [
        ({}, False),
        ({"stream": None, "stream_options": None}, False),
        ({"stream": False}, False),
        ({"stream": True}, True),
        ({"stream": True, "stream_options": {}}, True),
        ({"stream": True, "stream_options": {"include_usage": None}}, True),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ],
    ids=str,
)
def test_a_request_is_read_as_streaming_or_whole(body: dict[str, Any], streams: bool) -> None:
    assert wants_stream(body) is streams


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
    ids=str,
)
def test_another_value_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wants_stream(body)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("query", "last_event_id", "place"),
    [
        ({}, None, (False, None)),
        ({"stream": "true"}, None, (True, None)),
        ({"stream": "true"}, "1-2", (True, ChunkId(EventId(1, 2)))),
        ({"stream": "true", "starting_after": "1-2.3"}, "1-9", (True, ChunkId(EventId(1, 2), 3))),
        ({"stream": "true", "starting_after": ""}, "1-9", (True, None)),
    ],
    ids=str,
)
def test_the_query_or_header_gives_the_chunk_to_continue_after(
    query: dict[str, str], last_event_id: str | None, place: Any
) -> None:
    assert resumed_at(query, last_event_id) == place


@pytest.mark.parametrize(
    ("query", "error", "param"),
    [
        ({"stream": "yes"}, InvalidRequest, "stream"),
        ({"starting_after": "1-2"}, InvalidRequest, "starting_after"),
        ({"stream": "true", "starting_after": "x"}, BadCursor, "starting_after"),
    ],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused_by_name(
    query: dict[str, str], error: type[InvalidRequest], param: str
) -> None:
    with pytest.raises(error) as refused:
        resumed_at(query, None)

    assert refused.value.param == param
