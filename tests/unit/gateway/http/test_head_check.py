"""Test the check of a request's head: one Host, one Authorization, and a host that this gateway has."""

from collections.abc import Sequence

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.http.head_check import HeadCheck
from shared.model.errors import TailraceError

HOST = (b"host", b"chat.example:8443")
KEY = (b"authorization", b"Bearer sk-alice")


async def asked(
    headers: Sequence[tuple[bytes, bytes]], *, hosts: Sequence[str] = (), version: str = "1.1", kind: str = "http"
) -> tuple[int, str]:
    """Send a request with this head through the check; return the status and the text or the sentence."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("served")(scope, receive, send)

    def render(path: str, error: TailraceError) -> PlainTextResponse:
        assert path == "/v1/jobs"
        return PlainTextResponse(str(error), error.status)

    scope = {"type": kind, "method": "GET", "path": "/v1/jobs", "headers": list(headers), "http_version": version}
    await HeadCheck(app, hosts, render)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ([], "The request must have exactly one Host header."),
        ([HOST, HOST], "The request must have exactly one Host header."),
        ([HOST, KEY, KEY], "The request must have at most one Authorization header."),
    ],
)
async def test_a_head_that_two_readers_could_read_differently_is_refused(
    headers: list[tuple[bytes, bytes]], sentence: str
) -> None:
    assert await asked(headers) == (400, sentence)


async def test_http_1_0_needs_no_host() -> None:
    assert await asked([], version="1.0") == (200, "served")
    assert (await asked([HOST, HOST], version="1.0"))[0] == 400


@pytest.mark.parametrize(
    ("hosts", "status"), [([], 200), (["chat.example"], 200), (["chat.example", "b"], 200), (["localhost"], 421)]
)
async def test_only_the_hosts_of_the_settings_are_served_on_any_port(hosts: list[str], status: int) -> None:
    assert (await asked([HOST, KEY], hosts=hosts))[0] == status


async def test_the_error_for_a_refused_host_names_the_hosts_and_their_setting() -> None:
    _, sentence = await asked([HOST], hosts=["localhost", "127.0.0.1"])

    assert sentence == "Host must be one of: 127.0.0.1, localhost; TAILRACE_HOSTS names others."


async def test_without_a_host_none_of_the_settings_matches() -> None:
    assert (await asked([], hosts=["localhost"], version="1.0"))[0] == 421
