"""Test that a face writes the errors of its own addresses, and of missing ones below its prefix."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from gateway.app import FACES
from gateway.http.errors import ErrorResponses, Face, problem
from shared.model.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    TailraceError,
    Unauthenticated,
)


def plain(error: TailraceError) -> Response:
    return PlainTextResponse(f"plain: {error}", error.status)


def loud(error: TailraceError) -> Response:
    return PlainTextResponse(f"LOUD: {error}", error.status)


async def refuse(_: Request) -> Response:
    raise InvalidRequest("No.")


async def request(app: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/new/thing", 400, b"plain: No."),
        ("/new/other", 404, b"plain: The path /new/other does not exist."),
        ("/new/loud/thing", 404, b"LOUD: The path /new/loud/thing does not exist."),
    ],
)
async def test_a_new_face_writes_its_errors_with_and_without_a_route(path: str, status: int, body: bytes) -> None:
    routes = [Route("/new/thing", refuse)]
    errors = ErrorResponses([Face("/new", plain, routes), Face("/new/loud", loud, ())])
    app = Starlette(routes=routes, exception_handlers=errors.handlers())
    assert await request(app, path) == (status, body)


async def test_a_method_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    routes = [Route("/new/thing", refuse, methods=["POST"]), Route("/new/thing", refuse, methods=["DELETE"])]
    app = Starlette(routes=routes, exception_handlers=ErrorResponses([Face("/new", plain, routes)]).handlers())
    assert await request(app, "/new/thing") == (405, b"plain: GET is not allowed for this path; use DELETE, POST.")


@pytest.mark.parametrize(
    ("prefix", "path", "covered"),
    [
        ("/v1/jobs", "/v1/jobs", True),
        ("/v1/jobs", "/v1/jobs/", True),
        ("/v1/jobs", "/v1/jobs/job_1/events", True),
        ("/v1/jobs", "/v1/jobsworth", False),
        ("/v1/", "/v1/", True),
        ("/v1/", "/v1/x", True),
        ("/v1/", "/v1", False),
        ("/", "/anything", True),
    ],
)
def test_a_prefix_covers_whole_segments_of_a_path(prefix: str, path: str, covered: bool) -> None:
    assert Face(prefix, plain, ()).covers(path) is covered


def test_faces_of_one_prefix_agree_how_errors_are_written() -> None:
    ErrorResponses([Face("/new", plain, ()), Face("/new", plain, ())])
    with pytest.raises(ValueError, match="Two faces at /new"):
        ErrorResponses([Face("/new", plain, ()), Face("/new", loud, ())])


def test_an_allowed_method_is_named_in_a_header_of_every_face() -> None:
    response = ErrorResponses([Face("/new", plain, ())]).render("/new", MethodNotAllowed("No.", allowed="POST"))
    assert response.headers["allow"] == "POST"


def test_a_problem_names_the_field_and_asks_for_a_key() -> None:
    assert b'"param":"lane"' in bytes(problem(InvalidRequest("No.", param="lane")).body).replace(b": ", b":")
    assert problem(Unauthenticated("No.")).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        *((path, "application/problem+json") for path in ("/v1/jobs", "/v1/jobs/x/y", "/v1/dead-letters/x", "/v1")),
        *((path, "application/problem+json") for path in ("/", "/health/ready", "/metrics", "/none", "/api", "*")),
        *((path, "application/json") for path in ("/v1/chat/completions", "/v1/models", "/v1/none", "/v1/jobsworth")),
        *((path, "text/plain; charset=utf-8") for path in ("/api/chat", "/api/none")),
    ],
)
@pytest.mark.parametrize("error", [NotFound, InternalError])
def test_each_address_of_a_gateway_has_errors_of_its_dialect(
    path: str, media_type: str, error: Callable[[str], TailraceError]
) -> None:
    assert ErrorResponses(FACES).render(path, error("No.")).headers["content-type"] == media_type
