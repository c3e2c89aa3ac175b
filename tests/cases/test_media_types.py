"""An answer is read by its bytes: its media type is often wrong."""

import gzip
import json

import pytest

from tests.cases.dialects import Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import EVENT_STREAM, JSON, Raw, chunk, completion, event, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNKS = [chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk({}, "stop")]
STREAM = b"".join(map(event, CHUNKS)) + event(b"[DONE]")
WHOLE = json.dumps(completion({"role": "assistant", "content": "Hello"})).encode()
LINES = b"".join(json.dumps(each).encode() + b"\n" for each in CHUNKS)
INDENTED = json.dumps(completion({"role": "assistant", "content": "Hello"}), indent=2).encode()

ANSWERS: dict[str, Raw] = {
    "JSON as text/plain": sent(WHOLE, media_type="text/plain"),
    "JSON without a type": sent(WHOLE, media_type=None),
    "JSON as an event stream": sent(WHOLE, media_type=EVENT_STREAM),
    "JSON with a charset": sent(WHOLE, media_type="application/json; charset=utf-8"),
    "JSON of several lines as text/plain": sent(INDENTED, media_type="text/plain"),
    "JSON with a byte order mark": sent(b"\xef\xbb\xbf" + WHOLE, media_type=JSON),
    "JSON in pieces": sent(WHOLE[:9], WHOLE[9:], media_type=JSON),
    "JSON after white space": sent(b"\r\n\r\n  ", WHOLE, media_type=JSON),
    "events as JSON": sent(STREAM, media_type=JSON),
    "events without a type": sent(STREAM, media_type=None),
    "events as text/plain": sent(STREAM, media_type="text/plain"),
    "events as an octet stream": sent(STREAM, media_type="application/octet-stream"),
    "events in pieces, as JSON": sent(STREAM[:3], STREAM[3:], media_type=JSON),
    "events after a comment, as JSON": sent(b": hello\n\n" + STREAM, media_type=JSON),
    "lines of JSON": sent(LINES, media_type="application/x-ndjson"),
    "lines of JSON as text/plain": sent(LINES, media_type="text/plain"),
    "lines of JSON as JSON": sent(LINES, media_type=JSON),
    "lines of JSON as an event stream": sent(LINES, media_type=EVENT_STREAM),
    "lines of JSON without the last line's end": sent(LINES.rstrip(), media_type="application/jsonl"),
}


@pytest.mark.parametrize("name", ANSWERS)
@in_every_dialect
async def test_the_text_is_read(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hello"))
    assert len(stage.upstream.asked(model)) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sent(b"<!doctype html><title>Sign in</title>", media_type="text/html"), "web page"),
        (sent(b"<html><body>Bad gateway</body></html>", media_type="text/plain"), "web page"),
        (sent(b"Hello, I am no model.", media_type="text/plain"), "Hello, I am no model."),
        (sent(b'["nonsense"]', media_type=JSON), "not an object"),
        (sent(b'{"choices": [{"delta": {"content": "half a', media_type=JSON), "JSON"),
    ],
    ids=["a web page", "a web page as text", "a text", "a list", "half an object"],
)
@in_every_dialect
async def test_the_error_describes_a_body_that_is_not_an_answer(
    stage: Stage, dialect: Dialect, once: str, answer: Raw, words: str
) -> None:
    stage.upstream.play(once, answer)

    got = await dialect.ask(stage, once)

    assert got.trouble is not None
    assert got.finish is None
    assert "finish reason" not in got.trouble.message, "the sentence misleads"
    assert words in got.trouble.message


@in_every_dialect
async def test_a_compressed_answer_is_read_or_named(stage: Stage, dialect: Dialect, once: str) -> None:
    packed = (("Content-Encoding", "gzip"),)
    stage.upstream.play(once, sent(gzip.compress(STREAM), headers=packed))

    got = await dialect.ask(stage, once)

    if got.trouble is None:
        dialect.check(got, Answer("Hello"))
    else:
        assert "compressed" in got.trouble.message
