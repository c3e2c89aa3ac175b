"""Refuse a body that is malformed, too large or wrong, in the caller's dialect; a refusal changes nothing."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.model.json_body import MAX_DEPTH
from shared.config.settings import Settings
from shared.model.errors import QueueFull
from tests.support.api_errors import BODY, BOTH, CHAT, NATIVE, everything, said
from tests.support.client import Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide


def nested(depth: int) -> bytes:
    return b'{"model":"m","messages":' + b"[" * depth + b"]" * depth + b"}"


@BOTH
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "hint"),
    [
        pytest.param(b"", "must be JSON", id="empty"),
        pytest.param(b"{", "must be JSON", id="cut off"),
        pytest.param(b"[]", "must be a JSON object", id="a list"),
        pytest.param(b'"text"', "must be a JSON object", id="a text"),
        pytest.param(b'{"temperature":NaN}', "NaN is not a JSON number", id="NaN"),
        pytest.param(b'{"temperature":1e999}', "1e999 is not a JSON number", id="as good as infinite"),
        pytest.param(b'{"model":"\xff"}', "must be JSON", id="not UTF-8"),
        pytest.param(b'{"model":"\\ud800"}', "surrogate", id="half a character"),
        pytest.param(nested(100_000), "nested at most", id="very deep"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(client: Client, path: str, body: bytes, hint: str) -> None:
    answer = await client.post(path, body=body)
    assert answer.status == 400
    error = said(answer, path)
    assert hint in error["message"]
    assert (error["code"], error["param"]) == ("invalid_request", None)


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_no_depth_of_nesting_is_a_defect(client: Client, path: str) -> None:
    for depth in (MAX_DEPTH - 1, *range(MAX_DEPTH, 1_000, 36), *range(900, 1_000)):
        answer = await client.post(path, body=nested(depth))
        assert answer.status == 400, (depth, answer.body)


@BOTH
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello?"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*PROMPT, {"role": "user", "content": 1}]}, "messages[1].content"),
        ({"model": "a\x1b]0;b\x07"}, "model"),
        ({"model": "a\u202eb"}, "model"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": [1]}, "stop"),
        ({"seed": 0.5}, "seed"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ],
)
async def test_a_wrong_field_is_named(client: Client, path: str, fields: dict[str, Any], param: str) -> None:
    answer = await client.post(path, {**BODY, **fields})
    assert answer.status == 400
    error = said(answer, path)
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert param in error["message"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"kind": "images"}, "kind"),
        ({"kind": ["chat"]}, "kind"),
        ({"lane": "express"}, "lane"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"on_disconnect": "stop"}, "on_disconnect"),
        ({"webhook": "https://example.com"}, "webhook"),
        ({"webhook": {"url": "http://169.254.169.254/"}}, "webhook.url"),
        ({"webhook": {"url": "https://example.com", "events": ["job.started"]}}, "webhook.events"),
        ({"after": ["job_x"]}, "after"),
        ({"conversation": "c"}, "conversation"),
        ({"abandon_after_s": 0}, "abandon_after_s"),
        ({"on_stream_failure": "end"}, "on_stream_failure"),
        ({"timeout_ms": 5000}, "timeout_ms"),
        ({"lanes": "low"}, "lanes"),
        ({"meta_data": {}}, "meta_data"),
        ({"abandonAfterS": 5}, "abandonAfterS"),
        ({"on_stream_failures": "fail"}, "on_stream_failures"),
    ],
)
async def test_a_wrong_field_of_a_job_is_named(client: Client, fields: dict[str, Any], param: str) -> None:
    answer = await client.post(NATIVE, {**BODY, **fields})
    assert answer.status == 400
    error = said(answer, NATIVE)
    assert (error["code"], error["param"]) == ("invalid_request", param)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ],
)
async def test_a_wrong_stream_option_is_named(client: Client, fields: dict[str, Any], param: str) -> None:
    answer = await client.post(CHAT, {**BODY, **fields})
    assert answer.status == 400
    assert said(answer, CHAT)["param"] == param


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("lane", "X-Tailrace-Lane"),
        ("onDisconnect", "X-Tailrace-On-Disconnect"),
        ("timeout_s", "POST /v1/jobs"),
    ],
)
async def test_a_field_of_a_job_in_openais_dialects_is_answered_with_the_header(
    client: Client, path: str, field: str, hint: str
) -> None:
    asked = BODY if path == CHAT else {"model": "scripted", "input": "x"}
    answer = await client.post(path, {**asked, field: "low"})
    assert answer.status == 400
    error = said(answer, path)
    assert (error["code"], error["param"]) == ("invalid_request", field)
    assert hint in error["message"]


@BOTH
@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_a_body_that_is_too_large_is_refused_and_the_client_gets_the_answer(
    gateway: Gateway, path: str, chunked: bool
) -> None:
    limit = gateway.services.settings.max_body_bytes
    parts = [b" " * 65_536] * (3 * limit // 65_536)
    answer = await gateway.client.post(path, body=parts if chunked else b"".join(parts))
    assert answer.status == 413
    assert said(answer, path)["code"] == "body_too_large"
    assert str(limit) in said(answer, path)["message"]


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_a_client_that_leaves_before_its_body_has_ended_has_asked_for_nothing(client: Client, path: str) -> None:
    body = json.dumps(BODY).encode()
    with capture_logs() as logs:
        response = await client.send("POST", path, headers={"Content-Length": str(len(body) + 1)})
        response.close()
        await until(lambda: any(line["event"] == "request" for line in logs))
    assert [(line["event"], line["status"]) for line in logs] == [("request", 499)]


async def test_the_largest_body_is_a_setting(settings: Settings) -> None:
    async with running_gateway(settings.model_copy(update={"max_body_bytes": 2048})) as gateway:
        assert (await gateway.client.post(NATIVE, {**BODY, "user": "x" * 1900})).status == 202
        assert (await gateway.client.post(NATIVE, {**BODY, "user": "x" * 2100})).status == 413


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_a_model_that_is_not_served_is_a_404_and_not_a_wrong_field(settings: Settings, path: str) -> None:
    async with running_gateway(settings.model_copy(update={"models": ("a", "b")})) as gateway:
        answer = await gateway.client.post(path, {**BODY, "model": "c"})
    assert answer.status == 404
    error = said(answer, path)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "a, b" in error["message"]


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_the_error_of_a_full_lane_has_a_time_to_retry(settings: Settings, writing: JobSide, path: str) -> None:
    async with running_gateway(settings.model_copy(update={"max_depth": 1})) as gateway:
        assert (await gateway.client.post(NATIVE, BODY)).status == 202
        before = await everything(writing)
        answer = await gateway.client.post(path, BODY, headers={"Idempotency-Key": "k"})
        assert await everything(writing) == before
        assert answer.status == 429
        assert answer.headers["retry-after"] == str(QueueFull.retry_after_s)
        assert said(answer, path)["code"] in ("queue_full", "rate_limit_exceeded")
        await writing.client.delete(*before)
