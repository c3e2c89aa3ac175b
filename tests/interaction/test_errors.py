"""Report each failure in the caller's dialect, with a request id; a failure changes nothing."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.model.json_body import MAX_DEPTH
from shared.config.settings import Settings
from shared.model.errors import QueueFull
from tests.support.client import TIMEOUT_S, Answer, Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide

BODY = {"model": "scripted", "messages": PROMPT}
NATIVE, CHAT = "/v1/jobs", "/v1/chat/completions"
BOTH = pytest.mark.parametrize("path", [NATIVE, CHAT])


def problem(answer: Answer) -> dict[str, Any]:
    """Return the answer, which must be a problem (RFC 9457) with our fields."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["type"] == "about:blank"
    assert found["status"] == answer.status
    assert all(isinstance(found[name], str) and found[name] for name in ("title", "detail", "code"))
    assert found.keys() <= {"type", "title", "status", "detail", "code", "param"}
    return found


def envelope(answer: Answer) -> dict[str, Any]:
    """Return the answer, which must be OpenAI's error envelope."""
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"error"}
    found: dict[str, Any] = body["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    assert found["message"]
    assert isinstance(found["type"], str)
    return found


def said(answer: Answer, path: str) -> dict[str, Any]:
    """Message, code and param of an error, in whichever dialect this address speaks."""
    assert answer.headers["x-request-id"]
    if path.startswith(NATIVE):
        found = problem(answer)
        return {"message": found["detail"], "code": found["code"], "param": found.get("param")}
    found = envelope(answer)
    return {name: found[name] for name in ("message", "code", "param")}


async def everything(writing: JobSide) -> list[bytes]:
    """All keys that this test has in Redis: its lanes, its jobs, its idempotency keys; metrics come by themselves."""
    keys: list[bytes] = await writing.client.keys(f"{writing.keys.prefix}:*")
    reported = (writing.keys.processes, writing.keys.metrics(""), writing.keys.marker, writing.keys.clock)
    return sorted(key for key in keys if not key.decode().startswith(reported))


@pytest.fixture
async def unchanged(writing: JobSide, gateway: Gateway) -> Any:
    """After the test nothing is stored that was not there before."""
    before = await everything(writing)
    yield
    assert await everything(writing) == before


# Bodies.


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
        ({"webhook": {"url": "https://example.com"}}, "webhook"),
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
async def test_a_body_that_is_too_large_is_refused_and_the_client_hears_it(
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


async def test_how_large_a_body_may_be_is_a_setting(settings: Settings) -> None:
    async with running_gateway(settings.model_copy(update={"max_body_bytes": 2048})) as gateway:
        assert (await gateway.client.post(NATIVE, {**BODY, "user": "x" * 1900})).status == 202
        assert (await gateway.client.post(NATIVE, {**BODY, "user": "x" * 2100})).status == 413


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_a_model_that_is_not_served_is_told_apart_from_a_wrong_field(settings: Settings, path: str) -> None:
    async with running_gateway(settings.model_copy(update={"models": ("a", "b")})) as gateway:
        answer = await gateway.client.post(path, {**BODY, "model": "c"})
    assert answer.status == 404
    error = said(answer, path)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "a, b" in error["message"]


@BOTH
@pytest.mark.usefixtures("unchanged")
async def test_a_lane_that_is_full_says_when_to_return(settings: Settings, writing: JobSide, path: str) -> None:
    async with running_gateway(settings.model_copy(update={"max_depth": 1})) as gateway:
        assert (await gateway.client.post(NATIVE, BODY)).status == 202
        before = await everything(writing)
        answer = await gateway.client.post(path, BODY, headers={"Idempotency-Key": "k"})
        assert await everything(writing) == before
        assert answer.status == 429
        assert answer.headers["retry-after"] == str(QueueFull.retry_after_s)
        assert said(answer, path)["code"] in ("queue_full", "rate_limit_exceeded")
        await writing.client.delete(*before)


# Heads.


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nX: "], ids=["address", "header"])
async def test_a_head_that_does_not_end_is_refused(client: Client, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        writer.write(head + b"x" * 66_000)
        assert await reader.readline() == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        assert (await reader.read()).endswith(b"connection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_a_large_head_is_read(client: Client) -> None:
    assert (await client.get("/health/live", headers={f"X-{n}": "x" * 1000 for n in range(60)})).status == 200


async def test_what_comes_before_a_head_is_not_counted_as_part_of_it(client: Client) -> None:
    """A client that sends its next request before it has the answer to a large one."""
    body = b" " * 300_000
    first = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-alice\r\nContent-Length: %d\r\n\r\n%b"
    second = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with asyncio.timeout(TIMEOUT_S):
        writer.write(first % (len(body), body) + second)
        status = await reader.readline()
        writer.write(b"\r\n")
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 400")
    assert b"HTTP/1.1 200" in rest


# Keys.


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", [None, "", "sk-wrong", "sk-alice-and-more"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", NATIVE),
        ("GET", NATIVE),
        ("GET", NATIVE + "/job_0000000000000000000000000a"),
        ("GET", NATIVE + "/job_0000000000000000000000000a/events"),
        ("POST", NATIVE + "/job_0000000000000000000000000a/cancel"),
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/scripted"),
    ],
)
async def test_without_a_good_key_every_door_is_closed(client: Client, method: str, path: str, key: str | None) -> None:
    answer = await client.as_(key).request(method, path, json_body=BODY if method == "POST" else None)
    assert answer.status == 401
    error = said(answer, path)
    assert (error["code"], error["param"]) == ("invalid_api_key", "Authorization")
    assert not key or key not in error["message"]
    if path.startswith(NATIVE):
        assert answer.headers["www-authenticate"] == "Bearer"


# Addresses.


@pytest.mark.parametrize("path", ["/v1/jobs/", "/v1/jobs/a/b/c", "/v1/jobs/x/nothing", "/nothing", "/v2/jobs", "/v1"])
async def test_an_address_that_does_not_exist_is_a_problem(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 404
    assert problem(answer)["code"] == "not_found"
    assert path in problem(answer)["detail"]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat", "/v1/chat/completions/", "/v1/complete"])
async def test_an_address_that_openai_may_have_is_answered_in_its_envelope(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 404
    assert envelope(answer)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", NATIVE, {"GET", "HEAD", "POST"}),
        ("PUT", NATIVE + "/job_0000000000000000000000000a", {"GET", "HEAD"}),
        ("GET", NATIVE + "/job_0000000000000000000000000a/cancel", {"POST"}),
        ("POST", NATIVE + "/job_0000000000000000000000000a/events", {"GET", "HEAD"}),
        ("GET", CHAT, {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_not_there_is_told_which_are(
    client: Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    error = said(answer, path if path != "/" else NATIVE)
    assert error["code"] == "method_not_allowed"
    assert all(each in error["message"] for each in allowed)


# Request ids and defects.


@pytest.mark.parametrize("path", ["/", "/health/live", NATIVE, CHAT, "/v1/models", "/nothing"])
async def test_every_answer_has_a_request_id_and_the_callers_own_is_kept(client: Client, path: str) -> None:
    fresh = (await client.get(path)).headers["x-request-id"]
    assert fresh.startswith("req_")
    assert (await client.get(path, headers={"X-Request-Id": "mine-1"})).headers["x-request-id"] == "mine-1"


@pytest.fixture
def defect(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of ours is broken."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(gateway.services.admission, "submit", broken)


@BOTH
@pytest.mark.usefixtures("defect")
async def test_a_defect_is_said_in_the_callers_dialect_and_explained_in_the_log_only(client: Client, path: str) -> None:
    with capture_logs() as logs:
        answer = await client.post(path, BODY)
    assert answer.status == 500
    assert said(answer, path)["code"] == "internal_error"
    assert b"secret" not in answer.body
    (crash,) = [line for line in logs if line["event"] == "request.crashed"]
    assert crash["path"] == path
    assert [line["status"] for line in logs if line["event"] == "request"] == [500]
