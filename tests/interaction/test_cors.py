"""Show answers, errors and streams to pages of other origins, over a real socket; with CORS off, show nothing."""

from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.log_writer import JobSide

PAGE = "https://chat.example"
FROM_PAGE = {"Origin": PAGE}
ALLOW = "access-control-allow-origin"


@pytest.fixture
async def open_to_a_page(settings: Settings) -> AsyncIterator[Client]:
    """Start a gateway that a page may call."""
    async with running_gateway(settings.model_copy(update={"cors_origins": (PAGE,)})) as gateway:
        yield gateway.client


async def test_off_by_default(client: Client) -> None:
    preflight = {**FROM_PAGE, "Access-Control-Request-Method": "POST"}
    for answer in (await client.get("/v1/models", headers=FROM_PAGE), await client.request("OPTIONS", "/v1/jobs")):
        assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]
    assert (await client.request("OPTIONS", "/api/chat", headers=preflight)).status == 405


async def test_a_page_reads_answers_and_errors(open_to_a_page: Client) -> None:
    for target, status in (("/v1/models", 200), ("/v1/nothing", 404), ("/api/chat", 405), ("/v1/jobs/x", 404)):
        answer = await open_to_a_page.get(target, headers=FROM_PAGE)
        assert (answer.status, answer.headers[ALLOW], answer.headers["vary"]) == (status, PAGE, "origin")
        assert answer.headers["x-request-id"]


async def test_a_preflight_needs_no_key(open_to_a_page: Client) -> None:
    asked = {**FROM_PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = await open_to_a_page.as_(None).request("OPTIONS", "/api/chat", headers=asked)
    assert (answer.status, answer.body, answer.headers["access-control-allow-headers"]) == (204, b"", "authorization")


async def test_a_page_reads_every_kind_of_stream(open_to_a_page: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("Hello")
    for target in (f"/v1/jobs/{writer.job_id}/events", f"/v1/chat/completions/{writer.job_id}?stream=true"):
        async with open_to_a_page.stream("GET", target, headers=FROM_PAGE) as stream:
            assert (stream.status, stream.headers[ALLOW]) == (200, PAGE)
            assert stream.headers["content-type"] == "text/event-stream"
            assert await stream.frame()
