"""Test the outermost layer: every answer has a request id, and the log has one line without the query."""

import re
from typing import Any

import pytest
import structlog
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.http.middleware import AFTERWARDS, RequestLog, at_end
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


async def serve(
    app: Any,
    *,
    path: str = "/v1/jobs",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    method: str = "GET",
    metrics: Metrics | None = None,
) -> list[Message]:
    """Send one request through the layer and return the messages it sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"token=secret", "headers": headers}
    await RequestLog(app, SystemClock(), metrics)(scope, receive, send)
    return sent


def request_id(sent: list[Message]) -> bytes:
    headers: dict[bytes, bytes] = dict(sent[0]["headers"])
    return headers[b"x-request-id"]


async def test_an_answer_carries_a_fresh_request_id() -> None:
    first, second = request_id(await serve(hello)), request_id(await serve(hello))
    assert re.fullmatch(rb"req_[0-9a-f]{24}", first)
    assert first != second


@pytest.mark.parametrize("crashes", [False, True])
async def test_callbacks_at_the_end_of_a_request_run_after_everything_else(crashes: bool) -> None:
    order: list[str] = []

    async def afterwards(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("afterwards")
        if crashes:
            raise RuntimeError

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        for name in ("one", "two"):
            at_end(scope, lambda name=name: order.append(name))  # type: ignore[misc]
        await hello(scope, receive, send)
        scope[AFTERWARDS] = afterwards

    await serve(take)

    assert order == ["afterwards", "one", "two"]


async def test_the_callers_own_request_id_is_kept() -> None:
    assert request_id(await serve(hello, headers=((b"x-request-id", b"mine:1.2_3-4"),))) == b"mine:1.2_3-4"


@pytest.mark.parametrize("given", [b"", b"a b", b"a\x00b", b"x" * 129, b"<script>", "naïve".encode()])
async def test_a_request_id_that_could_do_harm_is_replaced(given: bytes) -> None:
    assert request_id(await serve(hello, headers=((b"x-request-id", given),))).startswith(b"req_")


async def test_a_request_is_one_line_in_the_log_without_its_query() -> None:
    with capture_logs() as logs:
        await serve(hello)
    (line,) = logs
    assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "GET", "/v1/jobs", 200)
    assert "secret" not in repr(line)


async def test_health_checks_are_not_logged() -> None:
    with capture_logs() as logs:
        await serve(hello, path="/health/live")
    assert logs == []


async def test_the_log_lines_of_a_request_carry_its_id() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert structlog.contextvars.get_contextvars() == {"request": "mine"}
        await hello(scope, receive, send)

    await serve(app, headers=((b"x-request-id", b"mine"),))
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_defect_after_the_headers_breaks_off_and_is_logged() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("boom")

    with capture_logs() as logs:
        sent = await serve(app)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert [line["event"] for line in logs] == ["request.crashed", "request"]


async def test_other_protocols_pass_untouched() -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody sends or receives here")

    await RequestLog(app, SystemClock())({"type": "lifespan"}, nothing, nothing)
    assert passed == ["lifespan"]


async def test_a_deferred_answer_is_sent_after_the_application_has_returned() -> None:
    returned = False

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        assert returned
        await hello(scope, receive, send)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal returned
        scope[AFTERWARDS] = answer
        returned = True

    with capture_logs() as logs:
        sent = await serve(application)

    assert request_id(sent).startswith(b"req_")
    assert [(line["event"], line["status"]) for line in logs] == [("request", 200)]


async def test_an_answer_is_counted_by_method_route_and_status_class_and_nothing_that_a_caller_made_up() -> None:
    metrics = Metrics()

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route("/v1/jobs/{job_id}", hello)
        await hello(scope, receive, send)

    await serve(routed, path="/v1/jobs/job_1", metrics=metrics)
    await serve(hello, method="BREW-ME-A-COFFEE", metrics=metrics)

    assert [(sample.labels, sum(sample.numbers[:-1])) for sample in metrics.http.samples()] == [
        (("GET", "/v1/jobs/{job_id}", "2xx"), 1),
        (("other", "none", "2xx"), 1),
    ]
