"""Test any bytes of an upstream: an answer is chunks, or one of the errors that a provider knows."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.model.errors import REFUSALS, AttemptFailed, EventTooLarge
from worker.upstream.wire.answer_body import NotUnderstood, WebPage, read_error_body
from worker.upstream.wire.answers import ChatAnswer, DocumentAnswer
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.disclosure import SentRequest, disclose
from worker.upstream.wire.quotation import quoted
from worker.upstream.wire.refusal_codes import TIMEOUT
from worker.upstream.wire.refusals import Refused, refusal_in, refusal_of
from worker.upstream.wire.transport_fields import TransportField, blamed

KNOWN = (Refused, NotUnderstood, WebPage, EventTooLarge)
_OF_ERRORS = ["error", "message", "detail", "code", "type", "object", "loc", "msg", "param", "status", "errors", "raw"]
_OF_MINIMAX = ["base_resp", "status_code", "status_msg"]
_OF_CHUNKS = ["choices", "delta", "index", "finish_reason", "usage", "content", "metadata", "innererror", "x"]
NAMES = st.sampled_from([*_OF_ERRORS, *_OF_MINIMAX, *_OF_CHUNKS])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["error", "stop", "400", "stream_options", "{", "[1", "\ud83d", "", "body"])
    | st.text(max_size=5)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5))
PIECES = st.sampled_from(
    [b"data: ", b"event: error\n", b"event: x\n", b"\n\n", b"\n", b"\r", b"[DONE]", b"<", b"{", b" "]
)
BODIES = st.lists(VALUES.map(lambda value: json.dumps(value).encode()) | PIECES | st.binary(max_size=4), max_size=12)


def refuse(error: object) -> AttemptFailed:
    """Make the error of a choice, as a provider does."""
    return disclose(refusal_of(error), "mock", SentRequest({})).error


@given(VALUES, st.none() | st.integers(400, 599))
@settings(max_examples=200)
@example({"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}}, 400)
@example({"base_resp": {"status_code": True, "status_msg": 5}}, None)
def test_anything_can_be_read_as_an_error(value: Any, status: int | None) -> None:
    for refusal in (refusal_in(value), refusal_of(value, status)):
        if refusal is not None:
            assert refusal.code in {*REFUSALS, TIMEOUT}
            assert refusal.param is None or refusal.param.isprintable()
            assert quoted(refusal.said).isprintable()
            blamed(refusal, {*TransportField})
            assert str(disclose(refusal, "mock", SentRequest({}), secret="sk-ours").error).isprintable()


@given(BODIES)
@settings(max_examples=200)
def test_any_body_is_an_answer_or_a_known_error(pieces: list[bytes]) -> None:
    answer = ChatAnswer(ChunkReader("seed", refuse), 1000)
    try:
        for piece in pieces:
            for chunk in answer.feed(piece):
                assert all(json.dumps(delta, allow_nan=False) for delta in chunk.deltas)
        _ = [*answer.end()]
    except (*KNOWN, AttemptFailed):
        pass


@given(BODIES)
def test_any_body_is_a_document_or_a_known_error(pieces: list[bytes]) -> None:
    answer = DocumentAnswer(1000)
    try:
        for piece in pieces:
            answer.feed(piece)
        answer.end()
    except KNOWN:
        pass


@given(BODIES)
def test_any_body_is_that_of_an_error(pieces: list[bytes]) -> None:
    refusal_of(read_error_body(b"".join(pieces), 1 << 20), 400)
