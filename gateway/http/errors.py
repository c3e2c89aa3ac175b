"""Write errors as HTTP: find the face that an address belongs to, and use its error renderer.

A face is the addresses of one API with its error renderer. An error that is raised before a route is found is written
by the face with the path's prefix. Not here: the dialects' own renderers (gateway/api).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from gateway.http.bodies import AsciiJSONResponse
from shared.model.errors import (
    BoundReached,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RedisUnavailable,
    RequestError,
    TailraceError,
    Unavailable,
)
from shared.store.client import REDIS_DOWN, REDIS_FULL
from shared.store.refusals import RefusedByRedis, name_of

log = structlog.get_logger()

ErrorRenderer = Callable[[TailraceError], Response]
Handler = Callable[[Request, Exception], Awaitable[Response]]

_CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True, slots=True)
class Face:
    """Hold the routes of one API, and the renderer of errors at all paths below `prefix`.

    A prefix that ends in a slash does not include the path without it.
    """

    prefix: str
    render_error: ErrorRenderer
    routes: Sequence[BaseRoute]

    def covers(self, path: str) -> bool:
        """Return whether a path is at or below the prefix."""
        return path == self.prefix or path.startswith(self.prefix.rstrip("/") + "/")


class ErrorResponses:
    """Write each error as the face of its path does; the longest prefix wins, and other paths get a `problem`."""

    def __init__(self, faces: Iterable[Face]) -> None:
        """Map prefixes to error renderers.

        Raises:
            ValueError: two faces with the same prefix write errors differently.
        """
        renderers: dict[str, ErrorRenderer] = {}
        for face in faces:
            if renderers.setdefault(face.prefix, face.render_error) is not face.render_error:
                raise ValueError(f"Two faces at {face.prefix} write errors differently.")
        self._faces = [Face(prefix, renderers[prefix], ()) for prefix in sorted(renderers, key=len, reverse=True)]

    def render(self, path: str, error: TailraceError) -> Response:
        """Write an error for the caller of this path."""
        render = next((face.render_error for face in self._faces if face.covers(path)), problem)
        response = render(error)
        if isinstance(error, MethodNotAllowed):
            response.headers["allow"] = error.allowed
        return response

    def handlers(self) -> dict[type[Exception], Handler]:
        """Return Starlette's exception handlers."""
        handlers: dict[type[Exception], Handler] = {
            TailraceError: self._on_error,
            HTTPException: self._on_http_exception,
            ClientDisconnect: _on_disconnect,
            Exception: self._on_defect,
        }
        return handlers | dict.fromkeys((*REDIS_DOWN, *REDIS_FULL), self._on_redis_error)

    # They are coroutines, since Starlette would run plain functions in a thread.

    async def _on_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, TailraceError)  # noqa: S101  # it is registered for these only
        return self.render(request.url.path, error)

    async def _on_http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these only
        path, method = request.url.path, request.method
        if error.status_code == HTTPStatus.NOT_FOUND:
            return self.render(path, NotFound(f"The path {path} does not exist."))
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = _allowed(request)
            return self.render(
                path, MethodNotAllowed(f"{method} is not allowed for this path; use {allowed}.", allowed=allowed)
            )
        return self.render(path, InvalidRequest(error.detail))

    async def _on_redis_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, RefusedByRedis):
            log.error("request.redis_refuses", error=name_of(error), reason=error.sentence)
        else:
            log.warning("request.redis_unavailable", error=name_of(error))
        return self.render(request.url.path, RedisUnavailable("Redis can't be reached just now; try again."))

    async def _on_defect(self, request: Request, _: Exception) -> Response:
        return self.render(request.url.path, InternalError("Internal error; see the server log."))


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)  # the client has left; only the log counts it


def _allowed(request: Request) -> str:
    """Return all methods of this address; Starlette reports only those of the first matching route."""
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    here = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for each in here for method in each.methods or ()}))


def problem(error: TailraceError) -> Response:
    """Write an error as problem+json (RFC 9457)."""
    is_known = error.status != _CLIENT_CLOSED_REQUEST
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase if is_known else "Client Closed Request",
        "status": error.status,
        "detail": str(error),
        "code": error.code,
    }
    if isinstance(error, RequestError) and error.param is not None:
        body["param"] = error.param
    headers = {}
    if isinstance(error, Unavailable | BoundReached):
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return AsciiJSONResponse(body, error.status, headers, media_type="application/problem+json")
