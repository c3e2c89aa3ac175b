"""An upstream's event stream is read as the standard says (WHATWG HTML §9.2.6)."""

import pytest

from tests.cases.dialects import CHAT_STREAM, NATIVE, SUBMIT, Dialect
from tests.cases.everywhere import in_dialects, in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import MAIN, Raw, chunk, event, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = Answer("Hello world")
EVENTS = [event(chunk({"content": "Hello"})), event(chunk({"content": " world"})), event(chunk({}, "stop"))]
FIRST, SECOND, END = EVENTS
DONE = event(b"[DONE]")
STREAM = b"".join([*EVENTS, DONE])
BOM = b"\xef\xbb\xbf"


def in_two_lines(data: bytes) -> bytes:
    """Write an event's data on two lines."""
    return data.replace(b'"choices": ', b'"choices":\ndata: ')


STREAMS: dict[str, Raw] = {
    "a byte order mark": sent(BOM + STREAM),
    "a byte order mark in pieces": sent(b"\xef", b"\xbb", b"\xbf" + STREAM),
    "bare data first": sent(b"data:\n\n" + STREAM),
    "bare data in mid-answer": sent(FIRST + b"data:\n\n" + SECOND + b"data: \n\n" + END + DONE),
    "a data field without a colon": sent(FIRST + b"data\n\n" + SECOND + END + DONE),
    "a named event without data": sent(
        b"event: ping\ndata:\n\n" + FIRST + b"event: ping\ndata: \n\n" + SECOND + END + DONE
    ),
    "a named event that is not a chunk": sent(FIRST + b"event: keepalive\ndata: 1732999999\n\n" + SECOND + END + DONE),
    "an event without data at all": sent(b"event: ping\n\n" + FIRST + b"id: 5\n\n" + SECOND + END + DONE),
    "CRLF": sent(STREAM.replace(b"\n", b"\r\n")),
    "CR": sent(STREAM.replace(b"\n", b"\r")),
    "CRLF cut in the middle": sent(*STREAM.replace(b"\n", b"\r\n").partition(b"\r")),
    "mixed line ends": sent(FIRST.replace(b"\n", b"\r\n") + SECOND.replace(b"\n", b"\r") + END + DONE),
    "no space after the colon": sent(STREAM.replace(b"data: ", b"data:")),
    "two spaces after the colon": sent(STREAM.replace(b"data: {", b"data:  {")),
    "comments": sent(b": OPENROUTER PROCESSING\n\n" + FIRST + b":\n\n: x\n" + SECOND + END + DONE),
    "ids, names and retry": sent(
        b"retry: 1000\n\n" + b"".join(b"event: message\nid: %d\n%b" % each for each in enumerate(EVENTS)) + DONE
    ),
    "fields that are not known": sent(b"foo: bar\n" + FIRST + b"datax: {}\n" + SECOND + END + DONE),
    "data on several lines": sent(b"".join(map(in_two_lines, EVENTS)) + DONE),
    "no [DONE]": sent(b"".join(EVENTS)),
    "no last newline": sent(STREAM.rstrip(b"\n")),
    "byte by byte": sent(*(bytes([each]) for each in STREAM)),
    "a chunk with nothing in it": sent(event({}) + FIRST + event({"choices": []}) + SECOND + END + DONE),
}


@pytest.mark.parametrize("name", STREAMS)
@in_every_dialect
async def test_the_text_is_read(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    stage.upstream.play(model, STREAMS[name])

    got = await dialect.ask(stage, model)

    dialect.check(got, HELLO)
    assert len(stage.upstream.asked(model)) == 1


@in_every_dialect
async def test_a_byte_that_is_not_utf_8_is_a_replacement_character(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, sent(STREAM.replace(b" world", b" w\xffrld")))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hello w�rld"))
    assert len(stage.upstream.asked(model)) == 1


async def test_a_torn_character_does_not_open_the_circuit(stage: Stage, model: str) -> None:
    stage.upstream.play(model, sent(STREAM.replace(b" world", b" w\xe2\x82")))

    for _ in range(12):
        got = await NATIVE.ask(stage, model)

        NATIVE.check(got, Answer("Hello w�"))
    assert len(stage.upstream.asked(model, MAIN)) == 12


@in_dialects(NATIVE, CHAT_STREAM, SUBMIT)
async def test_a_text_that_looks_like_frames_survives(stage: Stage, dialect: Dialect, model: str) -> None:
    words = "data: [DONE]\n\nevent: error\r\n\u2028\u2029: hb\n\nid: 1-1\n"
    stage.upstream.play(model, sent(event(chunk({"content": words})) + END + DONE))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer(words))
