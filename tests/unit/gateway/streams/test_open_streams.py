"""Test the count of a tenant's open streams, and its bound."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.middleware import RequestLog
from gateway.streams.open_streams import OpenStreams
from shared.model.errors import TooManyStreams
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import TenantBounds
from shared.process.clock import SystemClock


async def request_that(streams: OpenStreams, *tenants: str) -> int:
    """Serve one request that enters as a stream of each tenant; return the count of the first while it lasts."""
    counts: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for tenant in tenants:
            streams.enter(scope, tenant)
        counts.append(streams.of(tenants[0]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await RequestLog(app, SystemClock(), Metrics())(scope, receive, send)
    return counts[0]


async def test_a_stream_counts_until_its_request_is_over() -> None:
    streams = OpenStreams(TenantBounds(streams=1))

    assert await request_that(streams, "alice") == 1
    assert streams.of("alice") == 0
    assert await request_that(streams, "alice") == 1


def test_a_tenant_has_as_many_as_it_may_and_another_one_has_its_own() -> None:
    metrics = Metrics()
    streams = OpenStreams(TenantBounds(streams=2), metrics)
    streams.enter({}, "alice")
    streams.enter({}, "alice")

    with pytest.raises(TooManyStreams):
        streams.enter({}, "alice")
    streams.enter({}, "bob")

    assert (streams.of("alice"), streams.of("bob"), streams.of("carol")) == (2, 1, 0)
    assert metrics.refused.of("streams").value == 1


def test_without_a_bound_all_enter() -> None:
    streams = OpenStreams(TenantBounds(streams=None))

    for _ in range(1_000):
        streams.enter({}, "alice")

    assert streams.of("alice") == 1_000
