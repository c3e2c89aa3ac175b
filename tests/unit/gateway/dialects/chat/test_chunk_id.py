"""Test the ids of chunks, which a caller sends back."""

import pytest

from gateway.dialects.chat.chunk_id import ChunkId, after, numbered, parse_chunk_id
from shared.model.errors import BadCursor
from shared.model.events import EventId


@pytest.mark.parametrize(
    ("text", "chunk"),
    [("1-17", ChunkId(EventId(1, 17))), ("1-17.2", ChunkId(EventId(1, 17), 2)), ("0-1", ChunkId(EventId(0, 1)))],
)
def test_an_id_is_read_as_it_is_written(text: str, chunk: ChunkId) -> None:
    assert parse_chunk_id(text) == chunk
    assert str(chunk) == text


@pytest.mark.parametrize("text", ["", "1", "-1", "1-17.", "1-17.0", "1-17.x", "1-17.\u0661", "1-17.12345", "1-17.1.1"])
def test_a_malformed_id_is_refused_by_the_name_of_the_parameter(text: str) -> None:
    with pytest.raises(BadCursor, match=r"1-17 or 1-17\.1") as caught:
        parse_chunk_id(text)
    assert caught.value.param == "starting_after"


def test_the_last_of_several_chunks_has_the_events_own_id() -> None:
    assert numbered(b"data: 1\n\ndata: 2\n\n", EventId(1, 17)) == b"data: 1\nid: 1-17.1\n\ndata: 2\nid: 1-17\n\n"


def test_the_frames_after_a_chunk_are_the_rest_of_its_event() -> None:
    frames = numbered(b"data: 1\n\ndata: 2\n\n", EventId(1, 17))

    assert after(frames, 1) == b"data: 2\nid: 1-17\n\n"
    assert after(frames, None) == b""
    assert after(frames + b"data: [DONE]\n\n", None) == b"data: [DONE]\n\n"
