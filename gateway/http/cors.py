"""Allow pages of other origins to call this gateway (CORS, WHATWG Fetch §3.3), if the settings name any.

The outermost layer. Pure ASGI, so that a stream costs nothing more than its first message. An origin that may not call
is served as if this layer did not exist: its browser withholds the answer from the page. The gateway uses no cookies,
so that `credentials: "include"` gives a page no more rights than its key. Not here: keys.

Starlette's CORSMiddleware is unsuitable: it refuses a preflight of another origin with a 400, gives the exposed headers
and credentials to every origin, and mirrors any text as the names of headers.
"""

import re
from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY = "*"

# The headers that a page's code may read, besides those that every page may (Fetch §3.3.3).
_EXPOSED = (
    *("x-request-id", "retry-after", "retry-after-ms", "x-should-retry"),  # read by OpenAI's clients
    *("x-tailrace-job", "x-vercel-ai-ui-message-stream", "location", "www-authenticate"),
)
_METHODS = "GET, HEAD, POST, DELETE"
# Two hours: browsers remember a preflight no longer than that.
_MAX_AGE_S = b"7200"
# A preflight lists names of headers (RFC 9110 §5.1). OpenAI's clients send a dozen `x-stainless-` ones, and an
# app may add its own, so that all of them are allowed; cookies are not a header that a page could name.
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")


class Cors:
    """Allow pages of these origins; `ANY` among them allows all, without credentials."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)
        self._exposed = (b"access-control-expose-headers", ", ".join(_EXPOSED).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, asked, names = (
            _header(scope, name)
            for name in (b"origin", b"access-control-request-method", b"access-control-request-headers")
        )
        allowed = self._allowed(origin)
        if allowed and asked is not None and scope["method"] == "OPTIONS":
            await _answer_preflight(send, [*allowed, *_preflight(names)])
            return
        headers = [*allowed, self._exposed] if allowed else self._vary()

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_cors)

    def _allowed(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the headers that let this origin read the answer; empty if it may not, or without an origin."""
        if origin is None:
            return []
        if self._any:
            return [(b"access-control-allow-origin", b"*")]
        if origin not in self._origins:
            return []
        allowed = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
        return [*allowed, *self._vary()]

    def _vary(self) -> list[tuple[bytes, bytes]]:
        """Return the `Vary` header, without which a cache could give one origin's answer to another."""
        return [] if self._any else [(b"vary", b"origin")]


def _header(scope: Scope, name: bytes) -> bytes | None:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for each, value in headers if each == name), None)


def _preflight(names: bytes | None) -> list[tuple[bytes, bytes]]:
    allowed = [(b"access-control-allow-methods", _METHODS.encode()), (b"access-control-max-age", _MAX_AGE_S)]
    if names is not None and _HEADER_NAMES.fullmatch(names):
        allowed.append((b"access-control-allow-headers", names))
    return allowed


async def _answer_preflight(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
