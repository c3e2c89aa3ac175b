"""Test answers from bytes: the parts of the answer, the parts that are skipped, and the end."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.model.errors import AttemptFailed, ProviderGarbage
from worker.upstream.wire.answer_body import NotUnderstood
from worker.upstream.wire.answers import ChatAnswer, DocumentAnswer
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader
from worker.upstream.wire.refusals import Refused

MUCH = 1 << 20
HELLO = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
WORLD = b'data: {"choices":[{"index":0,"delta":{"content":" world"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def refuse(error: object) -> AttemptFailed:
    """Make the error of a choice."""
    return ProviderGarbage(json.dumps(error))


def chunks(*pieces: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a chat's answer in these pieces."""
    answer = ChatAnswer(ChunkReader("seed", refuse), MUCH)
    for piece in pieces:
        yield from answer.feed(piece)
        if answer.done:
            break
    yield from answer.end()


def text(*pieces: bytes) -> str:
    """Return the text of a chat's answer."""
    return "".join(delta.get("content", "") for chunk in chunks(*pieces) for delta in chunk.deltas)


@pytest.mark.parametrize(
    "between",
    [
        b"data:\n\n",
        b"data: \n\n",
        b"data\n\n",
        b"event: ping\ndata:\n\n",
        b"event: ping\ndata: {}\n\n",
        b"event: keepalive\ndata: 1732999999\n\n",
        b"event: keepalive\ndata: still here\n\n",
        b'event: status\ndata: {"message": "Loading the model."}\n\n',
        b": OPENROUTER PROCESSING\n\n",
        b"retry: 10\n\n",
        b"id: 5\n\n",
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"id":"x","object":"chat.completion.chunk"}\n\n',
    ],
)
def test_bytes_outside_the_answer_are_passed_over(between: bytes) -> None:
    assert text(between, HELLO, between, WORLD + DONE) == "Hello world"


def test_an_answer_after_a_byte_order_mark_loses_nothing() -> None:
    assert text(b"\xef\xbb\xbf" + HELLO, WORLD, DONE) == "Hello world"


def test_a_byte_that_is_not_utf_8_costs_one_character() -> None:
    assert text(HELLO.replace(b"Hello", b"H\xffllo"), WORLD) == "H\ufffdllo world"


def test_chunks_under_another_name_are_chunks() -> None:
    assert text(b"event: chunk\n" + HELLO, b"event: message\n" + WORLD) == "Hello world"


def test_nothing_is_read_after_done() -> None:
    assert text(HELLO, WORLD, b" event: x\ndata:[DONE]\n\ndata: {nonsense\n\n") == "Hello world"


def test_numbers_that_json_does_not_have_do_not_end_an_answer() -> None:
    logprobs = b'"logprobs":{"content":[{"token":"a","logprob":-Infinity}]},'
    (chunk,) = chunks(WORLD.replace(b'"index"', logprobs + b'"index"'))

    assert chunk.deltas[0]["logprobs"] == {"content": [{"token": "a", "logprob": None}]}


@pytest.mark.parametrize(
    "body",
    [
        [HELLO.removeprefix(b"data: "), WORLD.removeprefix(b"data: ")],
        [HELLO.removeprefix(b"data: ") + WORLD.removeprefix(b"data: ") + b"[DONE]\n"],
        [
            json.dumps(
                {"choices": [{"message": {"content": "Hello world"}, "finish_reason": "stop"}]}, indent=2
            ).encode()
        ],
        [b' \n {"choices":[{"message":', b'{"content":"Hello world"},"finish_reason":"stop"}]}'],
    ],
    ids=["lines", "lines in one piece", "a document", "a document in pieces"],
)
def test_json_is_an_answer_too(body: list[bytes]) -> None:
    assert text(*body) == "Hello world"


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"object":"error","message":"maximum context length is 4096","type":"BadRequestError","code":400}\n\n',
        b'event: error\ndata: {"message":"maximum context length is 4096","code":400}\n\n',
        b"event: error\ndata: maximum context length is 4096\n\n",
        b'event: error\ndata: {"error":{"message":"maximum context length is 4096"}}\n\n',
        b'event: failed\ndata: {"error":{"message":"maximum context length is 4096"}}\n\n',
        b'data: {"code":"InvalidParameter","message":"maximum context length is 4096"}\n\n',
        b'data: {"detail":"maximum context length is 4096"}\n\n',
        b'data: {"choices":null,"error_type":"x","error_message":"maximum context length is 4096"}\n\n',
        b'{"object":"error","message":"maximum context length is 4096","code":400}',
        b'[{"error":{"code":400,"message":"maximum context length is 4096"}}]',
    ],
)
def test_an_error_inside_an_answer_is_a_refusal(error: bytes) -> None:
    with pytest.raises(Refused) as refused:
        text(error)

    assert (refused.value.refusal.code, refused.value.refusal.said) == (
        "context_length_exceeded",
        "maximum context length is 4096",
    )


def test_chunks_before_an_error_are_not_lost() -> None:
    read = chunks(HELLO + b'data: {"error":"No."}\n\n')

    assert next(read).deltas == ({"content": "Hello"},)
    with pytest.raises(Refused):
        next(read)


def test_an_error_of_a_choice_is_made_by_the_provider() -> None:
    with pytest.raises(ProviderGarbage, match="Provider returned error"):
        text(b'data: {"choices":[{"delta":{},"error":{"code":502,"message":"Provider returned error"}}]}\n\n')


@pytest.mark.parametrize(
    ("body", "beginning"),
    [
        (b"Internal Server Error", "Internal Server Error"),
        (b'{"foo": 1}', '{"foo": 1}'),
        (b'data: {"foo": 1}\n\ndata: [DONE]\n\n', 'data: {"foo": 1}\n\ndata: [DONE]\n\n'),
    ],
)
def test_the_error_for_an_unreadable_answer_quotes_its_beginning(body: bytes, beginning: str) -> None:
    with pytest.raises(NotUnderstood, match="not a chat completion") as caught:
        text(body)

    assert caught.value.text == beginning


@pytest.mark.parametrize(
    "body", [b"", b"\n\n", b": hb\n\n", DONE, HELLO[:-10], b'{"choices":[]}', b"event: ping\ndata: 1\n\n"]
)
def test_an_answer_that_only_ends_is_not_garbage(body: bytes) -> None:
    assert text(body) == ""


@pytest.mark.parametrize("body", [b"data: {nonsense\n\n", b'{"choices":[', b"data: " + b"[" * 10_000 + b"\n\n"])
def test_a_part_that_is_not_json_is_shown(body: bytes) -> None:
    with pytest.raises(NotUnderstood, match="not JSON") as caught:
        text(body)

    assert caught.value.text in body.decode()


def document(*pieces: bytes) -> object:
    """Return the document in these pieces."""
    answer = DocumentAnswer(MUCH)
    for piece in pieces:
        answer.feed(piece)
    return answer.end()


@pytest.mark.parametrize(
    "body",
    [[b'{"data":', b" []}"], [b'{"data": []}\n', b'{"more": 1}\n'], [b'data: {"data": [], "usage": {}}\n\n', HELLO]],
)
def test_a_document_is_the_first_part(body: list[bytes]) -> None:
    value: Any = document(*body)

    assert value["data"] == []


def test_a_document_can_be_an_error() -> None:
    with pytest.raises(Refused):
        document(b'{"detail": "No."}')


@pytest.mark.parametrize("body", [b"", b"oops", b"data: \n\n", b"{"])
def test_a_body_that_is_not_a_document_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood, match="not JSON"):
        document(body)
