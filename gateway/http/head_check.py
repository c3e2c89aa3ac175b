"""Refuse heads that two readers could interpret differently, and hosts that this gateway does not have.

RFC 9112 §3.2 demands one Host header of HTTP/1.1. A doubled Authorization may mean one caller to a proxy and another
one here. Without API keys, a page of another site could reach a gateway on loopback under a name of its own (DNS
rebinding): then only the hosts of the settings are answered. Pure ASGI. Not here: the format of errors.
"""

from collections.abc import Callable, Collection

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.model.address import host_of
from shared.model.errors import InvalidRequest, MisdirectedRequest, TailraceError


class HeadCheck:
    """Check the heads of an application's requests. `hosts` are those that are answered, without ports; empty: any."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], render: Callable[[str, TailraceError], Response]) -> None:
        self._app = app
        self._hosts = hosts
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and (error := self._error(scope)) is not None:
            await self._render(scope["path"], error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _error(self, scope: Scope) -> TailraceError | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
            return InvalidRequest("The request must have exactly one Host header.", param="Host")
        if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
            return InvalidRequest("The request must have at most one Authorization header.", param="Authorization")
        host = host_of(hosts[0].decode("latin-1")) if hosts else ""
        if self._hosts and host not in self._hosts:
            return MisdirectedRequest(
                f"Host must be one of: {', '.join(sorted(self._hosts))}; TAILRACE_HOSTS names others.", param="Host"
            )
        return None
