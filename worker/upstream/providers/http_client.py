"""The HTTP client of an upstream: its connections, time-out, proxies, redirects and the bounds of its answers.

The rules hold for every upstream, whichever API it has. The client is OpenAI's over aiohttp, which reads a token at
half the cost of its default one. Not here: requests and credentials
(worker/upstream/providers/http_upstream.py and the modules of the APIs).
"""

from collections.abc import AsyncIterator
from ipaddress import ip_address

import httpx2
from openai import DefaultAioHttpClient

from shared.model.bounds import EVENT_BYTES
from shared.model.errors import ProviderGarbage, StartupError
from worker.upstream.wire.quotation import quoted

_ALL_SCHEMES = ("all://", "http://", "https://")


def open_http_client(base_url: str, *, connect_s: float) -> httpx2.AsyncClient:
    """Open the client for the API at `base_url`, as in `https://api.openai.com/v1`; nothing is sent yet.

    Raises:
        StartupError: it is not the address of an API.
    """
    return DefaultAioHttpClient(
        base_url=_checked_url(base_url),
        headers={"Accept-Encoding": "identity"},  # compression holds tokens back
        timeout=httpx2.Timeout(None, connect=connect_s),
        # The worker's slots are the limit; 0 sets no other one.
        limits=httpx2.Limits(max_connections=0, keepalive_expiry=30.0),
        event_hooks={"response": [_bound]},
        # A redirect would carry the request, prompt and key, to an address that is not configured.
        follow_redirects=False,
        # The proxies of the environment are for other machines.
        mounts=dict.fromkeys(_ALL_SCHEMES) if is_loopback(httpx2.URL(base_url).host) else None,
    )


def checked_key(api_key: str | None) -> str | None:
    """Return a key that a header can hold.

    Raises:
        StartupError: it can't be one.
    """
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise StartupError("The upstream's API key may hold only printable ASCII characters.")
    return api_key or None


def is_loopback(host: str) -> bool:
    """Return whether this host is the machine itself."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _checked_url(base_url: str) -> str:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise StartupError("The upstream's URL must be like https://api.openai.com/v1.")
    if url.userinfo:
        raise StartupError("The upstream's URL must not hold a user or a password; its key is a setting of its own.")
    return base_url


class _Bounded(httpx2.AsyncByteStream):
    """The body of an error that may not be over `EVENT_BYTES`: the client reads it whole."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size > EVENT_BYTES:
                await self.aclose()  # the client leaves an error's body open when reading it fails
                raise ProviderGarbage(f"The provider sent an answer of over {EVENT_BYTES} bytes.")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Compressed(httpx2.AsyncByteStream):
    """A body that is not read: a few bytes of it may become any number of them."""

    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await self.aclose()  # the client leaves an error's body open
        raise ProviderGarbage(f"The provider sent a compressed answer ({self._encoding}), which was not requested.")

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        return
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        response.stream = _Compressed(response.stream, quoted(encoding))
    elif not response.is_success:
        response.stream = _Bounded(response.stream)
