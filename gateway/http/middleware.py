"""Wrap every request: give it an id, log one line, and run long answers outside the application's layers.

Pure ASGI: a BaseHTTPMiddleware would cost more per event than everything else on the way (facts, C). Query strings are
not logged: event links carry a token there.
"""

import re
import secrets
from collections.abc import Callable, Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.model.metrics import Metrics
from shared.process.clock import Clock

log = structlog.get_logger()

AFTERWARDS = "tailrace.afterwards"
"""Scope entry for an ASGI application that a handler sets, to be called when the one that routed to it has returned.
A stream that waits inside would hold the frames and the request of all its layers: 5 KiB for each reader."""

_AT_END = "tailrace.at_end"

# The name of a request's id in the log, and in the log's context.
_ID = "request"
_FOREIGN_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_GUARDS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_QUIET = ("/health/", "/metrics")
# The methods that a label may name: a caller may send any word as its method.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class RequestLog:
    """Log each request and give it an id; the layer around the application."""

    def __init__(self, app: ASGIApp, clock: Clock, metrics: Metrics | None = None) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics or Metrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started_at = self._clock.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._answered(scope, status, started_at)
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *_guards(message["headers"])]
            await send(message)

        with structlog.contextvars.bound_contextvars(**{_ID: request_id.decode()}):
            try:
                await self._app(scope, receive, send_with_id)
                if (afterwards := scope.pop(AFTERWARDS, None)) is not None:
                    await afterwards(scope, receive, send_with_id)
            except Exception:  # the top of the request's task; the application has answered, if it still could
                log.exception("request.crashed", path=scope["path"])
            finally:
                for call in scope.pop(_AT_END, ()):
                    call()
                if not scope["path"].startswith(_QUIET):
                    ms = round((self._clock.monotonic() - started_at) * 1000, 1)
                    log.info("request", method=scope["method"], path=scope["path"], status=status, ms=ms)

    def _answered(self, scope: Scope, status: int, started_at: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = scope["route"].path if "route" in scope else "none"
        self._metrics.http.of(method, route, f"{status // 100}xx").observe(self._clock.monotonic() - started_at)


def current_request_id() -> str:
    """Return the id of the request that the current task serves; empty outside of one."""
    return str(structlog.contextvars.get_contextvars().get(_ID, ""))


def at_end(scope: Scope, call: Callable[[], None]) -> None:
    """Call a function once the request is over, including the application that it left to be called later."""
    scope.setdefault(_AT_END, []).append(call)


def _guards(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return headers against a browser's guesses (Fetch §3.6) and against copies of answers (RFC 9111 §5.2.2.5).

    A header that the handler has set is not replaced.
    """
    names = {name.lower() for name, _ in headers}
    return [guard for guard in _GUARDS if guard[0] not in names]


def _request_id(scope: Scope) -> bytes:
    """Return the caller's own id if it sent a valid one, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _FOREIGN_ID.fullmatch(value):
            return bytes(value)
    return b"req_" + secrets.token_hex(12).encode()
