"""Test an upstream's errors in all their shapes, and texts that only look like an error."""

from typing import Any

import pytest

from shared.model.bounds import SENTENCE_CHARS
from worker.upstream.wire.refusals import Refusal, refusal_in, refusal_of

VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
RAW = '{"error":{"message":"Input is too long for requested model.","param":"messages"}}'
EXTRA = "Extra inputs are not permitted"


def read(data: object) -> Refusal:
    """Read this JSON of a 200 as an error."""
    refusal = refusal_in(data)
    assert refusal is not None
    return refusal


SHAPES: dict[str, tuple[object, str, str]] = {
    "an object": (
        {"error": {"message": "Too slow.", "type": "requests", "code": "rate_limit_exceeded"}},
        "rate_limit_exceeded",
        "Too slow.",
    ),
    "a text": ({"error": "Oops."}, "provider_error", "Oops."),
    "a list of texts": ({"error": ["Oops.", "Ouch."]}, "provider_error", "Oops.: Ouch."),
    "vLLM's, bare": (
        {"object": "error", "message": "maximum context length is 4096", "type": "BadRequestError", "code": 400},
        "context_length_exceeded",
        "maximum context length is 4096",
    ),
    "vLLM's, bare, with nothing to say": ({"object": "error"}, "provider_error", ""),
    "Anthropic's": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "provider_overloaded",
        "Overloaded",
    ),
    "DashScope's": (
        {"code": "InvalidParameter", "message": "No such parameter.", "request_id": "r"},
        "invalid_request",
        "No such parameter.",
    ),
    "FastAPI's text": ({"detail": "Not Found"}, "provider_error", "Not Found"),
    "FastAPI's list": (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": EXTRA, "input": 1}]},
        "provider_error",
        f"x: {EXTRA}",
    ),
    "Mistral's": (
        {
            "object": "error",
            "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": EXTRA}]},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        "invalid_request",
        f"x: {EXTRA}",
    ),
    "Mistral's, without saying that it is one": ({"message": {"detail": "No."}}, "provider_error", "No."),
    "Gemini's": (
        [{"error": {"code": 400, "message": 'Unknown name "foo"', "status": "INVALID_ARGUMENT"}}],
        "invalid_request",
        'Unknown name "foo"',
    ),
    "RunPod's": (
        {"choices": None, "error_type": "BadRequestError", "error_message": VLLM},
        "context_length_exceeded",
        VLLM,
    ),
    "OpenRouter's, in mid-stream": (
        {
            "error": {"code": "server_error", "message": "Provider disconnected"},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        },
        "server_error",
        "Provider disconnected",
    ),
    "OpenRouter's, of the provider behind it": (
        {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": RAW, "provider_name": "X"}}},
        "context_length_exceeded",
        "Provider returned error: Input is too long for requested model.",
    ),
    "OpenRouter's, decoded": (
        {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": {"message": "Busy."}}}},
        "rate_limit_exceeded",
        "Provider returned error: Busy.",
    ),
    "OpenRouter's, torn": (
        {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": '{"half'}}},
        "rate_limit_exceeded",
        'Provider returned error: {"half',
    ),
    "MiniMax's": (
        {"id": "1", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        "upstream_auth",
        "login fail",
    ),
    "MiniMax's own trouble": (
        {"base_resp": {"status_code": 1013, "status_msg": "internal service error"}},
        "server_error",
        "internal service error",
    ),
    "Azure's": (
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy.",
                "type": None,
                "param": "prompt",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        "content_policy_violation",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    ),
    "TGI's": (
        {"error": "Input validation error", "error_type": "validation"},
        "invalid_request",
        "Input validation error",
    ),
    "Cloudflare's": (
        {"success": False, "errors": [{"code": 7003, "message": "No route."}], "result": None},
        "provider_error",
        "No route.",
    ),
    "a web framework's": (
        {"statusCode": 400, "error": "Bad Request", "message": "model must be a string"},
        "invalid_request",
        "model must be a string",
    ),
    "a message alone": ({"message": "Unauthorized"}, "provider_error", "Unauthorized"),
    "a message with a code": ({"code": 1113, "message": "No.", "data": None}, "provider_error", "No."),
    "true": ({"error": True, "message": "No."}, "provider_error", "No."),
}


@pytest.mark.parametrize(("data", "code", "said"), SHAPES.values(), ids=SHAPES.keys())
def test_each_shape_of_an_error_is_read(data: object, code: str, said: str) -> None:
    refusal = read(data)

    assert (refusal.code, refusal.said) == (code, said)


@pytest.mark.parametrize(
    "data",
    [
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "a"}, "error": None}], "error": None},
        {"choices": [{"delta": {"content": "a"}, "error": {}}], "error": {"code": 0, "message": ""}},
        {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "code": 0, "message": "ok", "detail": "x"},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502}}]},
        {"choices": ["error", None]},
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"id": "1", "object": "chat.completion.chunk", "choices": []},
        {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False},
        {"event": "progress", "message": "Loading."},
        {"code": 200, "message": "success", "data": []},
        {"code": "ok", "message": "fine", "data": []},
        {"message": "", "code": "x"},
        {"error": None},
        {"error": ""},
        {"base_resp": "x"},
        {"object": "list", "data": [{"embedding": [1.0]}], "detail": None},
        {},
        [],
        ["error"],
        [{"error": None}],
        "error",
        400,
        None,
    ],
)
def test_data_without_an_error_is_not_a_refusal(data: object) -> None:
    assert refusal_in(data) is None


def test_an_unspecific_error_beside_choices_is_a_server_error() -> None:
    refusal = read({"error": {"message": "Provider returned error"}, "choices": [{"delta": {}}]})

    assert (refusal.code, refusal.said) == ("server_error", "Provider returned error")


@pytest.mark.parametrize(
    ("error", "param", "fields"),
    [
        ({"param": "stream_options.include_usage"}, "stream_options.include_usage", ("stream_options",)),
        ({"param": "messages[0].content"}, "messages[0].content", ("messages",)),
        ({"param": None}, None, ()),
        ({"param": ""}, None, ()),
        ({"param": 5}, None, ()),
        ({"param": "a\x1b[31m"}, None, ()),
        ({"param": "\ud83d"}, None, ()),
        ({"param": "x" * (SENTENCE_CHARS + 1)}, None, ()),
    ],
)
def test_the_blamed_field_is_named(error: dict[str, Any], param: str | None, fields: tuple[str, ...]) -> None:
    refusal = read({"error": {"message": "No.", **error}})

    assert (refusal.param, refusal.fields) == (param, fields)


def test_fastapi_blames_fields_by_their_places() -> None:
    places: list[list[Any]] = [["body", "messages", 0, "content", 1.5], ["query", "x"], ["body", "messages", 1], []]
    refusal = read({"detail": [{"loc": place, "msg": "No."} for place in places] + [{"loc": ["body", "y"]}]})

    assert refusal.param == "messages[0].content"
    assert refusal.fields == ("messages", "query", "y")
    assert refusal.said == "messages[0].content: No.: query.x: No.: messages[1]: No."


def test_the_status_of_http_counts_more_than_a_code() -> None:
    assert refusal_of({"error": {"code": 400, "message": "Busy."}}, 503).code == "provider_overloaded"
    assert refusal_of({"error": {"code": "503", "message": "Busy."}}).status == 503


@pytest.mark.parametrize("data", [None, "", 5, {}, [], [[[[[["deep"]]]]]], "<html>oops</html>"])
def test_an_error_without_a_message_has_an_empty_text(data: object) -> None:
    assert refusal_of(data, 500) == Refusal("server_error", "", 500)


def test_a_plain_text_is_the_reason() -> None:
    assert refusal_of("slow down", 429) == Refusal("rate_limit_exceeded", "slow down", 429)


def test_a_repeated_message_appears_once() -> None:
    assert refusal_of({"message": "No.", "detail": "No.", "error": {"message": "No."}}, 400).said == "No."
