"""One tenant with as many streams as it may have: each dialect says so, and the others notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.streams.open_streams import OpenStreams
from shared.config.settings import Settings
from shared.model.errors import TooManyStreams
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from tests.interaction.test_tenant_bounds import CALLS, JOBS, bounded, everything, said
from tests.support.client import Answer, Client
from tests.support.core import TIMEOUT_S
from tests.support.system import System, ask

STREAMED = {
    "/v1/chat/completions": {**CALLS["/v1/chat/completions"], "stream": True},
    "/v1/completions": {**CALLS["/v1/completions"], "stream": True},
    "/v1/responses": {**CALLS["/v1/responses"], "stream": True},
    "/v1/responses ": {**CALLS["/v1/responses"], "stream": True, "background": True},
    "/api/chat": CALLS["/api/chat"],
}
READ = {
    JOBS: "/v1/jobs/{}/events",
    "/v1/chat/completions": "/v1/chat/completions/{}?stream=true",
    "/v1/completions": "/v1/completions/{}?stream=true",
    "/v1/responses": "/v1/responses/{}?stream=true",
}


@asynccontextmanager
async def full(system: System, job_id: str) -> AsyncIterator[AsyncExitStack]:
    """Alice has both of her streams open; leaving the stack closes them."""
    async with AsyncExitStack() as streams:
        for _ in range(2):
            stream = await streams.enter_async_context(system.client.stream("GET", f"/v1/jobs/{job_id}/events"))
            assert stream.status == 200
        yield streams


def check(answer: Answer, path: str) -> None:
    """Check that the answer is a 429 that names the bound in the words of its dialect."""
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True), answer.body
    code, sentence = said(answer, path)
    assert code in ("too_many_streams", None)
    assert "(max_streams_per_tenant)" in sentence


async def opened(client: Client, path: str) -> int:
    """Return the status of a stream, which is left at once."""
    async with client.stream("GET", path) as stream:
        return stream.status


@pytest.mark.parametrize("path", STREAMED)
async def test_a_request_for_one_stream_too_many_is_refused_and_stores_nothing(settings: Settings, path: str) -> None:
    async with bounded(settings, max_streams_per_tenant=2) as system:
        job_id = await system.submit()
        async with full(system, job_id):
            before = await everything(system)

            check(await system.client.post(path.strip(), STREAMED[path]), path.strip())

            assert await everything(system) <= before


@pytest.mark.parametrize("path", READ)
async def test_a_reader_too_many_is_refused_and_comes_in_once_another_has_left(settings: Settings, path: str) -> None:
    async with bounded(settings, max_streams_per_tenant=2) as system:
        job_id = await system.submit()
        target = READ[path].format(job_id if path == JOBS else job_id.replace("job_", _PREFIXES[path]))
        async with full(system, job_id) as streams:
            check(await system.client.get(target), path)
            assert (await system.client.post(JOBS, ask())).status == 202

            await streams.aclose()
            async with asyncio.timeout(TIMEOUT_S):
                while system.gateway.services.open_streams.of("alice"):
                    await system.client.get("/health/live")
        assert await opened(system.client, f"/v1/jobs/{job_id}/events") == 200


_PREFIXES = {"/v1/chat/completions": "chatcmpl-", "/v1/completions": "cmpl-", "/v1/responses": "resp_"}


async def test_another_tenants_streams_do_not_count(settings: Settings) -> None:
    async with bounded(settings, max_streams_per_tenant=2) as system:
        bob = system.client.as_("sk-bob")
        theirs = (await bob.post(JOBS, ask())).json()["id"]
        async with full(system, await system.submit()):
            assert await opened(bob, f"/v1/jobs/{theirs}/events") == 200


async def test_a_link_counts_for_the_tenant_whose_job_it_opens(settings: Settings) -> None:
    async with bounded(settings, max_streams_per_tenant=2) as system:
        job = (await system.client.post(JOBS, ask())).json()
        async with full(system, job["id"]):
            check(await system.client.as_(None).get(job["links"]["events"]), JOBS)


def test_exactly_the_allowed_number_of_concurrent_requests_is_admitted() -> None:
    metrics = Metrics()
    streams, scopes = OpenStreams(TenantBounds(streams=3), metrics), [dict[str, Any]() for _ in range(5)]
    refused = []
    for scope in scopes:
        try:
            streams.enter(scope, "alice")
        except TooManyStreams as error:
            refused.append(error)

    assert (streams.of("alice"), len(refused), metrics.refused.of("streams").value) == (3, 2, 2)


def test_without_a_bound_there_may_be_any_number() -> None:
    streams = OpenStreams(UNBOUNDED)
    for _ in range(20_000):
        streams.enter({}, "alice")

    assert streams.of("alice") == 20_000
