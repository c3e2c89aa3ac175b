"""Classify each failure of an upstream: the real `openai` client against an upstream that fails in each of the ways.

The table is that of worker/model/retry.py; these tests use a real client on the wire. The upstream answers its first
requests as a test says, and each further one well.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.config.route_settings import ProviderSettings
from shared.config.settings import Settings
from shared.model.routes import Continuation, MaxTokensField
from tests.support.system import System, running_system, running_worker
from tests.support.upstream import ask

pytestmark = pytest.mark.usefixtures("short_pauses")

SOON_S = 0.2
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET, HANG, CUT = b"RESET", b"HANG", b"CUT"
"""What it does in place of saying something: break the connection off, say nothing, close it."""


def piece(data: bytes) -> bytes:
    """Return a chunk of HTTP."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(text: str, reason: str | None = None) -> bytes:
    """Return an event of a chat stream."""
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}
    return piece(b"data: %b\n\n" % json.dumps(chunk).encode())


def reported(data: bytes) -> bytes:
    """Return an event that holds this."""
    return piece(b"data: " + data + b"\n\n")


def refused(status: int, headers: str = "", **error: Any) -> bytes:
    """Return an answer of HTTP that is an error."""
    body = json.dumps({"error": {"message": "No.", **error}}).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b" % (
        status,
        len(body),
        headers.encode(),
        body,
    )


def whole(body: bytes, status: int = 200) -> bytes:
    """Make an answer of HTTP that is not a stream, without a type."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


END = b"0\r\n\r\n"
DONE = reported(b"[DONE]") + END
WELL = STREAM + said("well") + said(".", "stop") + DONE
BEGUN = STREAM + said("All is ")


@dataclass
class Upstream:
    """An upstream's answers, request by request, and the requests that it got."""

    answers: list[Sequence[bytes]]
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if head.startswith("get"):
                    writer.write(refused(404))
                    continue
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                self.requests.append(json.loads(await reader.readexactly(length)))
                number = len(self.requests) - 1
                for part in self.answers[number] if number < len(self.answers) else [WELL]:
                    if part == RESET:
                        await writer.drain()
                        writer.transport.abort()
                        return
                    if part == HANG:
                        await reader.read()
                    if part in (HANG, CUT):
                        return
                    writer.write(part)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running_upstream(*answers: Sequence[bytes]) -> AsyncIterator[tuple[Upstream, str]]:
    """Provide an upstream with these answers, and its base URL."""
    upstream = Upstream(list(answers))
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with server:
        yield upstream, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Three attempts, at an upstream that can go on and may not be silent for long."""
    return settings.model_copy(
        update={
            "max_attempts": 3,
            "upstream_continuation": Continuation.PREFILL,
            "first_token_timeout_s": SOON_S,
            "gap_timeout_s": SOON_S,
        }
    )


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway."""
    async with running_system(settings) as opened:
        yield opened


async def run(system: System, *answers: Sequence[bytes]) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Run a job at an upstream with these answers; return its end, its text, and the requests that the upstream got."""
    async with running_upstream(*answers) as (upstream, url):
        async with running_worker(system.settings.model_copy(update={"upstream_url": url})):
            job_id = await system.submit()
            story = await system.story(job_id)
        job: dict[str, Any] = (await system.client.get(f"/v1/jobs/{job_id}")).json()
        return job, story.text, upstream.requests


PASSING: list[tuple[str, Sequence[bytes], str]] = [
    ("reset before the headers", [RESET], "provider_unreachable"),
    ("no headers", [HANG], "provider_timeout"),
    ("headers and then silence", [STREAM, HANG], "provider_timeout"),
    ("408", [refused(408)], "provider_timeout"),
    ("409", [refused(409)], "server_error"),
    ("429", [refused(429, "Retry-After: 0\r\n")], "rate_limit_exceeded"),
    ("500", [refused(500)], "server_error"),
    ("502", [refused(502)], "server_error"),
    ("503", [refused(503)], "provider_overloaded"),
    ("504", [refused(504)], "provider_timeout"),
    ("529", [refused(529)], "provider_overloaded"),
    ("end of the stream at once", [STREAM, END], "provider_truncated"),
    ("an error as its first event", [STREAM, reported(b'{"error":{"code":"server_error"}}'), END], "server_error"),
    ("garbage", [STREAM, reported(b"{nonsense"), END], "provider_garbage"),
    ("a text", [whole(b"Internal Server Error")], "provider_garbage"),
    ("another API", [whole(b'{"status":"ok"}')], "provider_garbage"),
    (
        "an error of a choice",
        [STREAM, reported(b'{"choices":[{"delta":{"content":""},"finish_reason":"error","error":{"code":502}}]}'), END],
        "server_error",
    ),
    ("a finish reason that is an error", [STREAM, said("", "error"), DONE], "server_error"),
]
IN_MID_STREAM: list[tuple[str, Sequence[bytes], str]] = [
    ("reset", [BEGUN, RESET], "provider_unreachable"),
    ("cut off", [BEGUN, CUT], "provider_unreachable"),
    ("silence", [BEGUN, HANG], "provider_timeout"),
    ("comments only", [BEGUN, *[piece(b": keep-alive\n\n")] * 3, HANG], "provider_timeout"),
    ("a clean end", [BEGUN, END], "provider_truncated"),
    ("[DONE] without a finish reason", [BEGUN, DONE], "provider_truncated"),
    ("an error that passes", [BEGUN, reported(b'{"error":{"type":"overloaded_error"}}'), END], "provider_overloaded"),
    ("garbage", [BEGUN, reported(b"{nonsense"), END], "provider_garbage"),
]
FINAL: list[tuple[str, Sequence[bytes], str]] = [
    ("400", [refused(400)], "invalid_request"),
    ("400, too long", [refused(400, code="context_length_exceeded")], "context_length_exceeded"),
    ("400, policy", [refused(400, code="content_policy_violation")], "content_policy_violation"),
    ("401", [refused(401)], "upstream_auth"),
    ("403", [refused(403)], "upstream_auth"),
    ("404", [refused(404)], "model_not_found"),
    ("413", [refused(413)], "invalid_request"),
    ("422", [refused(422)], "invalid_request"),
    ("429, quota", [refused(429, code="insufficient_quota")], "insufficient_quota"),
    ("418", [refused(418)], "provider_error"),
    (
        "an error that is an event",
        [STREAM, reported(b'{"object":"error","message":"maximum context length is 4096","code":400}'), DONE],
        "context_length_exceeded",
    ),
    (
        "an event called error",
        [STREAM, piece(b'event: error\ndata: {"message":"No.","code":400}\n\n'), DONE],
        "invalid_request",
    ),
    (
        "an error by its name alone",
        [STREAM, reported(b'{"code":"InvalidParameter","message":"No."}'), DONE],
        "invalid_request",
    ),
    (
        "an error in place of an answer",
        [whole(b'{"choices":null,"error_type":"BadRequestError","error_message":"No."}')],
        "invalid_request",
    ),
    ("an error as a list", [whole(b'[{"error":{"code":400,"message":"No."}}]', 400)], "invalid_request"),
    (
        "a final error in mid-stream",
        [BEGUN, reported(b'{"error":{"code":"content_filter"}}'), END],
        "content_policy_violation",
    ),
]


def rows(table: list[tuple[str, Sequence[bytes], str]]) -> pytest.MarkDecorator:
    """Return the table as parameters."""
    return pytest.mark.parametrize(("answer", "code"), [row[1:] for row in table], ids=[row[0] for row in table])


@rows(PASSING)
async def test_a_transient_failure_is_retried_unseen_by_readers(
    system: System, answer: Sequence[bytes], code: str
) -> None:
    job, text, requests = await run(system, answer)

    assert (job["status"], text) == ("completed", "well.")
    assert [(each["error"] or {}).get("code") for each in job["attempts"]] == [code, None]
    assert requests == [requests[0]] * 2


@rows(IN_MID_STREAM)
async def test_a_stream_that_breaks_in_the_middle_continues(system: System, answer: Sequence[bytes], code: str) -> None:
    job, text, requests = await run(system, answer)

    assert (job["status"], text) == ("completed", "All is well.")
    assert [(each["error"] or {}).get("code") for each in job["attempts"]] == [code, None]
    assert requests[1]["messages"][-1] == {"role": "assistant", "content": "All is "}


@rows(FINAL)
async def test_a_deterministic_failure_is_never_retried(system: System, answer: Sequence[bytes], code: str) -> None:
    job, _, requests = await run(system, answer)

    assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", code, False)
    assert len(requests) == 1


async def test_a_refusal_opens_no_circuit_however_often_it_comes(system: System) -> None:
    refusal = [STREAM, reported(b'{"object":"error","message":"maximum context length is 4096","code":400}'), DONE]
    async with (
        running_upstream(*[refusal] * 12) as (upstream, url),
        running_worker(system.settings.model_copy(update={"upstream_url": url})),
    ):
        for _ in range(12):
            assert (await system.story(await system.submit())).code == "context_length_exceeded"
        assert (await system.story(await system.submit())).text == "well."
        assert len(upstream.requests) == 13


async def test_garbage_that_comes_twice_is_how_that_provider_answers(system: System) -> None:
    garbage = [STREAM, reported(b"{nonsense"), END]
    job, _, requests = await run(system, garbage, garbage)

    assert (job["status"], job["error"]["code"], len(requests)) == ("failed", "provider_garbage", 2)


async def test_an_unreachable_upstream_gets_the_maximum_number_of_attempts(system: System) -> None:
    async with running_upstream() as (_, url):
        pass
    async with running_worker(system.settings.model_copy(update={"upstream_url": url})):
        job_id = await system.submit()
        story = await system.story(job_id)

    assert story.types == ["queued", *["started"] * 3, "failed"]
    assert story.code == "provider_unreachable"


async def test_a_provider_is_asked_as_its_settings_say(system: System) -> None:
    answer = whole(b'{"choices":[{"message":{"role":"assistant","content":"Whole."},"finish_reason":"stop"}]}')
    async with running_upstream([answer]) as (upstream, url):
        table = ProviderSettings(base_url=url, streaming=False, max_tokens_field=MaxTokensField.MAX_COMPLETION_TOKENS)
        settings = system.settings.model_copy(update={"upstream_url": None, "providers": {"mine": table}})
        async with running_worker(settings):
            story = await system.story(await system.submit({**ask(), "max_tokens": 5}))

    assert (story.text, len(story.deltas)) == ("Whole.", 1)
    (request,) = upstream.requests
    assert request.keys() == {"model", "messages", "max_completion_tokens"}


async def test_the_pause_that_a_provider_asks_for_is_kept(system: System) -> None:
    job, text, _ = await run(system, [refused(429, "Retry-After: 1\r\n")])
    first, second = job["attempts"]

    assert (text, first["error"]["retry_after_s"]) == ("well.", 1.0)
    assert first["ended_at"][:19] < second["started_at"][:19]


async def test_a_whole_answer_without_a_done_is_a_whole_answer(system: System) -> None:
    job, text, requests = await run(system, [STREAM, said("Whole", "stop"), END])

    assert (job["status"], text, len(requests)) == ("completed", "Whole", 1)
