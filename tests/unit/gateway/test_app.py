"""Test the gateway's application: its faces, and the order of its layers.

The parts that it is made of are tested in tests/contract/test_gateway_app.py.
"""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Message

from gateway.api.services import Services
from gateway.app import FACES, ROUTES, build_app
from shared.config.settings import Settings
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock

ORIGIN = "https://chat.example"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}


async def answer(
    path: str, method: str = "GET", headers: dict[str, str] | None = None, **changes: Any
) -> tuple[int, Headers, bytes]:
    """Send a request to an application with these settings."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    settings = Settings(**changes)
    services = SimpleNamespace(settings=settings, clock=SystemClock(), metrics=Metrics(), draining=False)
    raw = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **(headers or {})}.items()]
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": raw}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http"}
    await build_app(cast(Services, services))(scope, receive, send)
    return sent[0]["status"], Headers(raw=sent[0]["headers"]), b"".join(each.get("body", b"") for each in sent[1:])


def test_each_address_belongs_to_one_face() -> None:
    routes = [route for face in FACES for route in face.routes if isinstance(route, Route)]
    addresses = Counter((method, route.path) for route in routes for method in route.methods or ())

    assert [address for address, times in addresses.items() if times > 1] == []
    assert list(ROUTES) == routes


async def test_liveness_needs_no_part_of_the_gateway() -> None:
    status, headers, _ = await answer("/health/live")

    assert status == 200
    assert headers["x-request-id"].startswith("req_")
    assert "access-control-allow-origin" not in headers


async def test_an_unknown_path_gets_the_error_of_its_face() -> None:
    assert (await answer("/nothing"))[1]["content-type"] == "application/problem+json"
    assert (await answer("/v1/nothing"))[2].startswith(b'{"error":')


async def test_a_path_with_a_slash_too_many_is_not_redirected() -> None:
    assert (await answer("/health/live/"))[0] == 404


@pytest.mark.parametrize(
    ("path", "status"), [("/llm/health/live", 200), ("/health/live", 200), ("/llm/llm/health", 404)]
)
async def test_a_prefix_is_removed_before_the_routes(path: str, status: int) -> None:
    assert (await answer(path, path_prefix="/llm"))[0] == status


async def test_without_a_prefix_its_path_does_not_exist() -> None:
    assert (await answer("/llm/health/live"))[0] == 404


async def test_a_preflight_is_answered_below_the_prefix_and_without_a_key() -> None:
    changes: dict[str, Any] = {"cors_origins": (ORIGIN,), "path_prefix": "/llm"}
    status, headers, _ = await answer("/llm/v1/jobs", "OPTIONS", PREFLIGHT, **changes)

    assert (status // 100, headers["access-control-allow-origin"]) == (2, ORIGIN)


async def test_refusals_too_carry_the_headers_of_an_allowed_origin() -> None:
    status, headers, _ = await answer("/nothing", headers={"origin": ORIGIN}, cors_origins=(ORIGIN,))

    assert (status, headers["access-control-allow-origin"]) == (404, ORIGIN)


async def test_a_foreign_host_is_refused_before_any_route_and_is_logged_with_an_id() -> None:
    status, headers, _ = await answer("/health/live", headers={"host": "evil.example"}, hosts=("localhost",))

    assert status == 421
    assert headers["x-request-id"].startswith("req_")
