"""Report what is wrong with a head, a key or an address in the caller's dialect, with a request id; so with defects.

Not here: wrong bodies (test_request_bodies.py).
"""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.api_errors import BODY, BOTH, CHAT, NATIVE, envelope, problem, said
from tests.support.client import TIMEOUT_S, Client
from tests.support.gateway import Gateway

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


async def test_bytes_before_a_head_are_not_counted_as_part_of_it(client: Client) -> None:
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
async def test_each_route_refuses_a_request_without_a_valid_key(
    client: Client, method: str, path: str, key: str | None
) -> None:
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
async def test_a_405_names_the_methods_that_are_allowed(
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
async def test_a_defect_is_an_error_in_the_callers_dialect_and_explained_in_the_log_only(
    client: Client, path: str
) -> None:
    with capture_logs() as logs:
        answer = await client.post(path, BODY)
    assert answer.status == 500
    assert said(answer, path)["code"] == "internal_error"
    assert b"secret" not in answer.body
    (crash,) = [line for line in logs if line["event"] == "request.crashed"]
    assert crash["path"] == path
    assert [line["status"] for line in logs if line["event"] == "request"] == [500]
