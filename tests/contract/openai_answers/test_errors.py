"""Test the errors of upstreams in all their shapes: inside a 200, and with a status of HTTP."""

import json

import pytest

from shared.model.errors import ProviderRefused
from tests.contract.openai_answers.raw_answers import CHUNKS, FIELDS
from tests.contract.openai_answers.reading import KEY, answered
from tests.support.raw_upstream import JSON, Raw, RawUpstream, as_json, event, events, said, sent
from worker.upstream.providers.openai_compatible import OpenAICompatible

TOO_LONG = "maximum context length is 4096"
VLLM = {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "code": 400}
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
