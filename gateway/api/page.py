"""Serve the chat page and its files from the package (gateway/web/).

The page shows model output as text; the policy here ensures that no other code could run. Starlette finds, sends and
revalidates the files. Each is one route, since a mounted folder would have no access rules of its own.
"""

from http import HTTPStatus
from os import PathLike, stat_result
from pathlib import PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.http.errors import Face, problem

# A system's own table of media types may differ, and `nosniff` makes a browser refuse a script of another type.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class PageFiles(StaticFiles):
    """The files of the page, with their media types and the policy."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        media_type = _TYPES.get(PurePath(full_path).suffix)
        if media_type is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        if "content-type" in response.headers:  # an answer without a body has none
            response.headers["content-type"] = media_type
        return response


_FILES = PageFiles(packages=[("gateway", "web")])


async def page(request: Request) -> Response:
    """Serve `GET /`."""
    return await _FILES.get_response("index.html", request.scope)


async def asset(request: Request) -> Response:
    """Serve `GET /web/{file}`."""
    return await _FILES.get_response(request.path_params["file"], request.scope)


face = Face("/", problem, [Route("/", page, methods=["GET"]), Route("/web/{file}", asset, methods=["GET"])])
