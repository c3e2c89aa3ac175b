"""Read from a request, and from the query of one that resumes, how its answer is streamed. Pure.

All errors are of the error tree. Not here: the options that depend on the dialect.
"""

from collections.abc import Mapping
from typing import Any

from gateway.dialects.chat.chunk_id import ChunkId, parse_chunk_id
from gateway.dialects.chat_parameters import check_parameter
from shared.model.errors import InvalidRequest


def wants_stream(body: Mapping[str, Any]) -> bool:
    """Check `stream` and `stream_options`; return whether the answer is streamed.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    streaming = body.get("stream")
    if streaming is not None and not isinstance(streaming, bool):
        raise InvalidRequest("stream must be true or false.", param="stream")
    options = body.get("stream_options")
    check_parameter("stream_options", options)
    if options is not None and not streaming:
        raise InvalidRequest("stream_options is only allowed when stream is true.", param="stream_options")
    return bool(streaming)


def resumed_at(query: Mapping[str, str], last_event_id: str | None) -> tuple[bool, ChunkId | None]:
    """Return whether an answer that is read again is streamed, and after which chunk.

    Raises:
        InvalidRequest, BadCursor: names the field and its valid values.
    """
    stream = query.get("stream", "false")
    if stream not in ("true", "false"):
        raise InvalidRequest("stream must be true or false.", param="stream")
    starting_after = query.get("starting_after")
    if starting_after is not None and stream == "false":
        raise InvalidRequest("starting_after is only allowed when stream is true.", param="starting_after")
    cursor = last_event_id if starting_after is None else starting_after
    return stream == "true", parse_chunk_id(cursor) if cursor else None
