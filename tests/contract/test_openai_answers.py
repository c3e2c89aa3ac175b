"""Test the real openai client with the exact bytes of upstreams that break the format, refuse, or lack features."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderRefused, ProviderTimeout, ProviderTruncated
from shared.model.routes import EmbeddingEncoding, MaxTokensField, RequestRules
from tests.support.raw_upstream import (
    JSON,
    MAIN,
    Body,
    Raw,
    RawUpstream,
    as_json,
    chunk,
    completion,
    event,
    events,
    running_raw_upstream,
    said,
    sent,
)
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers import http_client, http_upstream, openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import read_vectors

BOUND_S = 5.0
KEY = "sk-of-the-upstream"
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
EMBEDDING: dict[str, Any] = {"model": "m", "input": ["one"]}
HELLO = said({"content": "Hello"}, {"content": " world"})
CHUNKS = [chunk({"content": "Hello"}), chunk({"content": " world"}, "stop")]
VECTORS = {"object": "list", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 1}}


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with running_raw_upstream() as running:
        yield running


@pytest.fixture
async def provider(upstream: RawUpstream) -> AsyncIterator[OpenAICompatible]:
    opened = OpenAICompatible("mock", upstream.base_url(MAIN), KEY)
    yield opened
    await opened.close()


async def read(provider: OpenAICompatible, **fields: Any) -> list[Chunk]:
    """Return the chunks of an answer, as a target of a chain gets them."""
    target = ProviderTarget(provider, first_token_s=BOUND_S, gap_s=BOUND_S)
    async with target.stream({**ASKED, **fields}, total_s=BOUND_S) as chunks:
        return [each async for each in chunks]


async def read_to_the_end(provider: OpenAICompatible) -> None:
    """Read an answer over its last finish reason."""
    async with asyncio.timeout(BOUND_S), provider.stream(ASKED) as chunks:
        async for _ in chunks:
            pass


def text(chunks: list[Chunk]) -> str:
    """Join the text of the chunks."""
    return "".join(delta.get("content", "") for each in chunks for delta in each.deltas)


async def answered(upstream: RawUpstream, provider: OpenAICompatible, *answers: Raw, **fields: Any) -> str:
    """Return the text of an answer of these bytes."""
    upstream.play("m", *answers)
    return text(await read(provider, **fields))


def refusal(message: str, status: int = 400, **fields: object) -> Raw:
    """Build an error of OpenAI's."""
    return as_json({"error": {"message": message, "type": "invalid_request_error", **fields}}, status)


# --- Forms of bodies

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


# --- Errors

TOO_LONG = "maximum context length is 4096"
VLLM = {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "code": 400}
FIELDS = [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]
INSIDE: dict[str, tuple[Raw, str, str]] = {
    "vLLM's": (events(VLLM), "context_length_exceeded", f"answered with 400: {TOO_LONG}"),
    "vLLM's as JSON": (as_json(VLLM), "context_length_exceeded", f"answered with 400: {TOO_LONG}"),
    "vLLM's as JSON among events": (sent(json.dumps(VLLM).encode()), "context_length_exceeded", TOO_LONG),
    "an event called error": (
        sent(b'event: error\ndata: {"message":"No.","code":400}\n\n'),
        "invalid_request",
        "answered with 400: No.",
    ),
    "DashScope's": (
        events({"code": "InvalidParameter", "message": "No.", "request_id": "r"}),
        "invalid_request",
        "answered with an error: No.",
    ),
    "FastAPI's": (as_json({"detail": "No."}), "provider_error", "answered with an error: No."),
    "RunPod's": (
        events({"choices": None, "error_type": "BadRequestError", "error_message": "No."}),
        "invalid_request",
        "answered with an error: No.",
    ),
    "OpenRouter's": (
        events(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": ""},
                        "finish_reason": "error",
                        "error": {"code": 502, "message": "Provider returned error"},
                    }
                ]
            },
            done=False,
        ),
        "server_error",
        "answered with 502: Provider returned error",
    ),
    "a choice's without a code": (
        events({"choices": [{"index": 0, "delta": {}, "error": {"message": "Broke down."}}]}),
        "server_error",
        "answered with an error: it failed.",
    ),
    "a finish reason": (
        said({"content": "He"}, finish="error"),
        "server_error",
        "an error: The answer broke off (finish reason error).",
    ),
    "another finish reason": (said({"content": "He"}, finish="abort"), "server_error", "finish reason abort"),
    "MiniMax's": (
        as_json({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}),
        "upstream_auth",
        "answered with an error: it does not accept this gateway's credentials.",
    ),
    "our key": (events({"error": {"message": f"Bad key {KEY}.", "code": 401}}), "upstream_auth", "credentials."),
}


@pytest.mark.parametrize(("answer", "code", "sentence"), INSIDE.values(), ids=INSIDE.keys())
async def test_an_error_inside_a_200_is_an_error_with_its_reason(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, code: str, sentence: str
) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await answered(upstream, provider, answer)

    assert refused.value.code == code
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("The provider mock answered with ")


async def test_an_error_that_is_null_is_none(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    answer = events(*({**each, "error": None, "detail": "x", "code": 0} for each in CHUNKS))

    assert await answered(upstream, provider, answer) == "Hello world"


HTTP: dict[str, tuple[Raw, str, str, str | None]] = {
    "Gemini's": (
        as_json([{"error": {"code": 400, "message": 'Unknown name "foo"', "status": "INVALID_ARGUMENT"}}], 400),
        "invalid_request",
        'answered with 400: Unknown name "foo"',
        None,
    ),
    "FastAPI's": (
        as_json({"detail": FIELDS}, 422),
        "invalid_request",
        "answered with 422: x: Extra inputs are not permitted",
        None,
    ),
    "Mistral's": (
        as_json({"object": "error", "message": {"detail": FIELDS}, "type": "invalid_request_error", "code": None}, 422),
        "invalid_request",
        "answered with 422: x: Extra inputs are not permitted",
        None,
    ),
    "vLLM's": (
        as_json(
            {
                "error": {
                    "message": "This model's maximum context length is 4096 tokens. However, you requested 5000.",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                }
            },
            400,
        ),
        "context_length_exceeded",
        "This model's maximum context length is 4096 tokens",
        None,
    ),
    "SGLang's": (
        as_json(
            {
                "object": "error",
                "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            400,
        ),
        "context_length_exceeded",
        "answered with 400: The input (5000 tokens) is longer",
        None,
    ),
    "as an event": (
        sent(event({"error": {"message": "No.", "param": "n"}}), status=400),
        "invalid_request",
        "answered with 400: No.",
        None,
    ),
    "as a text": (sent(b"slow\ndown", media_type="text/plain", status=429), "rate_limit_exceeded", "slow down", None),
    "as a page": (
        sent(b"<html>Oops</html>", media_type="text/html", status=502),
        "server_error",
        "with 502: it failed.",
        None,
    ),
    "nested without end": (sent(b"[" * 10_000, media_type=JSON, status=400), "invalid_request", "with 400: [[", None),
}


@pytest.mark.parametrize(("answer", "code", "sentence", "param"), HTTP.values(), ids=HTTP.keys())
async def test_an_error_of_http_says_its_reason_in_any_shape(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, code: str, sentence: str, param: str | None
) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await answered(upstream, provider, answer)

    assert (refused.value.code, refused.value.param) == (code, param)
    assert sentence in str(refused.value)
    assert len(upstream.asked("m")) == 1


# --- Fields that an upstream can't take

VERIFY = refusal("Your organization must be verified to stream this model.", param="stream", code="unsupported_value")
EXTRA_OPTIONS = as_json({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}, 422)
FLOAT = refusal("encoding_format must be float")
WAV = refusal(
    "'audio.format' does not support 'wav' when stream=true. Supported values are: 'pcm16'.", param="audio.format"
)
WHOLE = as_json(completion({"role": "assistant", "content": "Hello world"}))


def fields(upstream: RawUpstream) -> list[set[str]]:
    """Return the fields of each request, except those that all requests have."""
    return [body.keys() - {"model", "messages", "input"} for body in upstream.asked("m")]


@pytest.mark.parametrize(
    ("refused", "answer", "without"),
    [
        (VERIFY, WHOLE, set()),
        (EXTRA_OPTIONS, HELLO, {"stream"}),
        (events({"error": {"message": 'Unknown name "stream_options"', "code": 400}}), HELLO, {"stream"}),
    ],
    ids=["stream", "stream_options", "inside a 200"],
)
async def test_a_refused_field_of_ours_is_left_out_and_stays_out(
    upstream: RawUpstream, provider: OpenAICompatible, refused: Raw, answer: Raw, without: set[str]
) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await answered(upstream, provider, refused, answer) == "Hello world"
        assert text(await read(provider)) == "Hello world"

    assert fields(upstream) == [{"stream", "stream_options"}, without, without]
    (line,) = logs
    assert (line["event"], line["log_level"], line["provider"]) == ("provider.field_left_out", "info", "mock")


async def test_a_stream_is_left_out_for_its_model_only(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    await answered(upstream, provider, VERIFY, WHOLE)
    upstream.play("other", HELLO)
    await read(provider, model="other")

    assert upstream.asked("other")[0]["stream"] is True


async def test_both_fields_can_be_refused_one_after_the_other(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    assert await answered(upstream, provider, EXTRA_OPTIONS, VERIFY, WHOLE) == "Hello world"
    assert fields(upstream) == [{"stream", "stream_options"}, {"stream"}, set()]


async def test_what_only_one_request_can_not_have_streamed_is_not_remembered(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    assert await answered(upstream, provider, WAV, WHOLE, HELLO, audio={"format": "wav"}) == "Hello world"
    await read(provider)

    assert fields(upstream) == [{"stream", "stream_options", "audio"}, {"audio"}, {"stream", "stream_options"}]


@pytest.mark.parametrize(
    "answer",
    [
        refusal("Unknown parameter: 'top_k'.", param="top_k"),
        refusal("Bad."),
        refusal("temperature can't be used with stream_options", param="temperature"),
        refusal("Streaming is not supported while busy.", 429),
        as_json({"detail": FIELDS}, 422),
    ],
)
async def test_a_refusal_that_blames_nothing_of_ours_is_final(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw
) -> None:
    with pytest.raises(ProviderRefused):
        await answered(upstream, provider, answer, HELLO, top_k=5, temperature=0)

    assert len(upstream.asked("m")) == 1


async def test_a_field_whose_absence_does_not_help_is_not_remembered(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    with pytest.raises(ProviderRefused, match="answered with 400"):
        await answered(upstream, provider, VERIFY, VERIFY, HELLO)
    await read(provider)

    assert fields(upstream) == [{"stream", "stream_options"}, set(), {"stream", "stream_options"}]


async def test_an_answer_that_has_begun_is_not_asked_again(upstream: RawUpstream, provider: OpenAICompatible) -> None:
    torn = events(chunk({"content": "He"}), {"error": {"message": "stream_options", "param": "stream_options"}})
    with pytest.raises(ProviderRefused):
        await answered(upstream, provider, torn, HELLO)

    assert len(upstream.asked("m")) == 1


async def test_a_refused_encoding_of_vectors_is_left_out_and_stays_out(
    upstream: RawUpstream, provider: OpenAICompatible
) -> None:
    upstream.play("m", FLOAT, as_json(VECTORS))
    for _ in range(2):
        assert await provider.embed(EMBEDDING) == read_vectors(VECTORS, 1)

    assert fields(upstream) == [{"encoding_format"}, set(), set()]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (as_json({"detail": "Too many inputs."}), ProviderRefused),
        (refusal("Bad."), ProviderRefused),
        (sent(b"late", media_type="text/plain", status=504), ProviderTimeout),
        (sent(b"ok", media_type="text/plain"), ProviderGarbage),
        (sent(b"", media_type=JSON), ProviderGarbage),
        (sent(b"<html>", media_type=None), ProviderGarbage),
    ],
)
async def test_vectors_that_do_not_come_are_asked_for_once(
    upstream: RawUpstream, provider: OpenAICompatible, answer: Raw, error: type[AttemptFailed]
) -> None:
    upstream.play("m", answer)
    with pytest.raises(error):
        await provider.embed(EMBEDDING)

    assert len(upstream.asked("m")) == 1


@pytest.mark.parametrize("media_type", [JSON, "text/plain", None])
async def test_vectors_come_under_any_type(
    upstream: RawUpstream, provider: OpenAICompatible, media_type: str | None
) -> None:
    upstream.play("m", sent(json.dumps(VECTORS).encode(), media_type=media_type))

    assert await provider.embed(EMBEDDING) == read_vectors(VECTORS, 1)


async def test_the_rules_of_a_provider_are_those_of_its_requests(upstream: RawUpstream) -> None:
    rules = RequestRules(
        streaming=False,
        embedding_encoding=EmbeddingEncoding.FLOAT,
        max_tokens_field=MaxTokensField.MAX_COMPLETION_TOKENS,
    )
    provider = OpenAICompatible("mock", upstream.base_url(MAIN), KEY, rules)

    def answer(body: Body) -> Raw:
        return as_json(VECTORS) if "input" in body else WHOLE

    upstream.play("m", answer)
    assert [delta for each in await read(provider, max_tokens=5) for delta in each.deltas] == [
        {"content": "Hello world"}
    ]
    await provider.embed(EMBEDDING)
    await provider.close()

    chat, embedding = upstream.asked("m")
    assert chat == {**ASKED, "max_completion_tokens": 5}
    assert embedding == {**EMBEDDING, "encoding_format": "float"}
