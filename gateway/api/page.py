"""Serve the chat page and its files from the package (gateway/web/).

The page shows model output as text; the policy here ensures that no other code could run.
"""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http.errors import Face, problem
from shared.model.errors import NotFound

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


async def page(_: Request) -> Response:
    """Serve `GET /`."""
    return _file("index.html")


async def asset(request: Request) -> Response:
    """Serve `GET /web/{file}`."""
    return _file(request.path_params["file"])


def _file(name: str) -> Response:
    # Only names that the folder really lists: no path can lead out of it.
    for found in resources.files("gateway").joinpath("web").iterdir():
        if found.name == name and (kind := _TYPES.get("." + name.rpartition(".")[2])):
            return Response(found.read_bytes(), media_type=kind, headers=_HEADERS)
    raise NotFound(f"There is no file {name}.")


face = Face("/", problem, [Route("/", page, methods=["GET"]), Route("/web/{file}", asset, methods=["GET"])])
