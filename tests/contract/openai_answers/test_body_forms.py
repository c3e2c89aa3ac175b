"""Test the forms of a body that are understood, and those that are refused as garbage."""

import asyncio
import json

import pytest

from shared.model.errors import ProviderGarbage, ProviderTruncated
from tests.contract.openai_answers.raw_answers import CHUNKS
from tests.contract.openai_answers.reading import ASKED, BOUND_S, answered
from tests.support.raw_upstream import JSON, Raw, RawUpstream, as_json, chunk, completion, event, events, sent
from worker.upstream.providers import http_client, http_upstream, openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible


async def read_to_the_end(provider: OpenAICompatible) -> None:
    """Read an answer over its last finish reason."""
    async with asyncio.timeout(BOUND_S), provider.stream(ASKED) as chunks:
        async for _ in chunks:
            pass


LINES = b"".join(json.dumps(each).encode() + b"\n" for each in CHUNKS)
DOCUMENT = json.dumps(completion({"role": "assistant", "content": "Hello world"}), indent=2).encode()
STREAM = b"".join(map(event, CHUNKS)) + event(b"[DONE]")
FORMS: dict[str, Raw] = {
    "events as JSON": sent(STREAM, media_type=JSON),
    "events without a type": sent(STREAM, media_type=None),
    "events after a mark": sent(b"\xef\xbb\xbf" + STREAM),
    "heartbeats": sent(b"data:\n\n", event(CHUNKS[0]), b"event: ping\ndata:\n\ndata: \n\n", event(CHUNKS[1])),
    "a named event that is no chunk": sent(b"event: keepalive\ndata: 1732999999\n\n", STREAM),
    "a document": sent(DOCUMENT, media_type=JSON),
    "a document as text": sent(DOCUMENT, media_type="text/plain"),
    "a document without a type": sent(DOCUMENT, media_type=None),
    "a document as events": sent(DOCUMENT),
    "a document after white space": sent(b" \n" * 10, DOCUMENT, media_type=JSON),
    "lines": sent(LINES, media_type="application/x-ndjson"),
    "lines as JSON": sent(LINES[:30], LINES[30:], media_type=JSON),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_an_answer_is_understood_in_any_form(
    upstream: RawUpstream, provider: OpenAICompatible, form: Raw
) -> None:
    assert await answered(upstream, provider, form) == "Hello world"


async def test_lines_of_json_come_as_they_are_sent(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    held = asyncio.Event()
    upstream.play("m", sent(LINES.splitlines(keepends=True)[0], media_type="application/x-ndjson", held=held))
    async with asyncio.timeout(BOUND_S), provider.stream(ASKED) as chunks:
        assert (await anext(chunks)).deltas == ({"content": "Hello"},)
        held.set()


async def test_a_byte_that_is_not_utf_8_costs_one_character(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    assert await answered(upstream, provider, sent(STREAM.replace(b"Hello", b"H\xffllo"))) == "H\ufffdllo world"


GARBAGE: dict[str, tuple[Raw, str]] = {
    "a page": (sent(b"{}", media_type="text/html; charset=utf-8"), "answered with a web page: is its URL right"),
    "a page without a type": (sent(b"\n<!DOCTYPE html>", media_type=None), "answered with a web page"),
    "a text": (
        sent(b"Internal \x1b[31mServer\r\nError", media_type="text/plain"),
        r"an answer that is not a chat completion\. It begins: Internal \[31mServer Error$",
    ),
    "a long text": (sent(b"word " * 10_000, media_type=None), r"It begins: (word )+…$"),
    "our key": (sent(b"Bad key sk-of-the-upstream"), r"It begins: Bad key \*\*\*$"),
    "an address": (sent(b"No route to 10.0.0.1:80"), r"It begins: No route to \*\*\*$"),
    "our account": (sent(b"Your account is suspended"), r"not a chat completion\.$"),
    "another API": (as_json({"status": "ok"}), r'not a chat completion\. It begins: {"status": "ok"}$'),
    "torn JSON": (sent(b'{"choices": [{"mess', media_type=JSON), r'sent something that is not JSON\. It begins: {"cho'),
    "JSON without end": (sent(b"[" * 10_000, media_type=JSON), r"not JSON\. It begins: \[\["),
    "an event without end": (sent(event(b"[" * 10_000)), r"not JSON\. It begins: \[\["),
    "a deep delta": (sent(event(b'{"choices":[{"delta":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}")), "not JSON"),
}


@pytest.mark.parametrize(("answer", "sentence"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_is_not_understood_is_quoted(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, sentence: str
) -> None:
    with pytest.raises(ProviderGarbage, match=f"^The provider mock .*{sentence}"):
        await answered(upstream, provider, answer)


@pytest.mark.parametrize(
    "answer",
    [
        sent(b""),
        sent(b": hb\n\n"),
        events(),
        events(chunk({"content": "Hel"})),
        sent(event(CHUNKS[0]), event(CHUNKS[1])[:-1]),
        as_json({"choices": []}),
    ],
    ids=["nothing", "comments", "done", "a part", "an event cut off", "no choices"],
)
async def test_an_end_that_explains_nothing_is_no_success(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw
) -> None:
    with pytest.raises(ProviderTruncated, match="without a finish reason"):
        await answered(upstream, provider, answer)


@pytest.mark.parametrize(
    "answer",
    [
        sent(b'{"choices": [{"message": {"content": "' + b"x" * 900_000, media_type=JSON),
        sent(LINES, b'{"choices": [{"delta": {"content": "' + b"x" * 900_000 + b'"}}]}\n', media_type=None),
        sent(b"data: " + b"x" * 900_000, media_type=JSON),
        sent(b"x" * 900_000, media_type="text/plain"),
    ],
    ids=["document", "line", "event", "text"],
)
async def test_no_form_of_a_body_fills_our_memory(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_compatible, "EVENT_BYTES", 50_000)
    monkeypatch.setattr(http_upstream, "EVENT_BYTES", 50_000)
    monkeypatch.setattr(http_client, "EVENT_BYTES", 50_000)
    upstream.play("m", answer)
    with pytest.raises(ProviderGarbage, match="over 50000 bytes"):
        await read_to_the_end(provider)
