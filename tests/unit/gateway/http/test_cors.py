"""Test requests from pages of other origins: the allowed origins, and the headers that their pages may read.

Requests of other clients are served as without the layer.
"""

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.http.cors import Cors

PAGE = "https://chat.example"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


async def serve(*origins: str, origin: str | None = PAGE, method: str = "GET", **headers: str) -> list[Message]:
    """Send one request through the layer and return the messages it sent."""
    sent: list[Message] = []
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if origin is not None:
        given["origin"] = origin

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await Cors(hello, origins)({"type": "http", "method": method, "headers": raw}, receive, send)
    return sent


def reported(sent: list[Message]) -> dict[str, str]:
    """Return the headers for browsers that the layer adds to the application's own."""
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return {name: headers[name] for name in headers if name == "vary" or name.startswith("access-control-")}


async def preflight(*origins: str, **options: Any) -> list[Message]:
    return await serve(*origins, method="OPTIONS", access_control_request_method="POST", **options)


async def test_a_named_origin_may_read_the_answer_and_send_credentials() -> None:
    headers = reported(await serve("https://other.example", PAGE))

    exposed = headers.pop("access-control-expose-headers").split(", ")
    assert {"x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-tailrace-job"} <= set(exposed)
    assert headers == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "vary": "origin",
    }


async def test_any_origin_may_read_without_credentials_if_all_are_allowed() -> None:
    headers = reported(await serve("*"))

    assert headers.pop("access-control-expose-headers")
    assert headers == {"access-control-allow-origin": "*"}


@pytest.mark.parametrize("origin", ["https://evil.example", "https://chat.example.evil", "http://chat.example", "null"])
async def test_another_origin_is_served_without_cors_headers(origin: str) -> None:
    sent = await serve(PAGE, origin=origin)

    assert reported(sent) == {"vary": "origin"}
    assert sent[1]["body"] == b"hello"
    assert (await preflight(PAGE, origin=origin))[1]["body"] == b"hello"


async def test_a_request_without_an_origin_gets_no_cors_headers() -> None:
    assert reported(await serve(PAGE, origin=None)) == {"vary": "origin"}
    assert reported(await serve("*", origin=None)) == {}


async def test_a_preflight_is_answered_here() -> None:
    start, body = await preflight(PAGE, access_control_request_headers="authorization,x-stainless-os")

    assert (start["status"], body["body"]) == (204, b"")
    assert reported([start]) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "vary": "origin",
        "access-control-allow-methods": "GET, HEAD, POST, DELETE",
        "access-control-max-age": "7200",
        "access-control-allow-headers": "authorization,x-stainless-os",
    }


@pytest.mark.parametrize("names", ["a\r\nx: y", "a" * 5000, "", "naïve", None])
async def test_a_preflight_without_a_valid_list_of_headers_allows_no_headers(names: str | None) -> None:
    asked = {} if names is None else {"access_control_request_headers": names}

    assert "access-control-allow-headers" not in reported(await preflight("*", **asked))


async def test_an_options_request_without_preflight_headers_reaches_the_application() -> None:
    assert (await serve(PAGE, method="OPTIONS"))[1]["body"] == b"hello"


async def test_other_protocols_pass_untouched() -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody sends or receives here")

    await Cors(app, [PAGE])({"type": "lifespan"}, nothing, nothing)
    assert passed == ["lifespan"]
