"""Remove the path prefix of a proxy that forwards it; it is the path under which the proxy serves the gateway.

Links and `Location` get it from gateway/model/auth.py. `X-Forwarded-Prefix` is not read: any client can send it,
and it would decide to which path a browser sends a signed link. Not here: hosts and schemes; every link is a path.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class PathPrefix:
    """Serve `/prefix/v1/…` as `/v1/…`; other paths are served as they are."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._path = prefix + "/"
        self._raw = self._path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].startswith(self._path):
            # In place: a copy would stay in memory for as long as a reader stays.
            scope["path"] = scope["path"][len(self._path) - 1 :]
            scope["raw_path"] = scope["raw_path"].removeprefix(self._raw[:-1])
        await self._app(scope, receive, send)
