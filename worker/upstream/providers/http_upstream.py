"""The HTTP side of an upstream: connections, authentication, bounds of bodies, and faults as errors of the tree.

It uses the official client of OpenAI for authentication, connections (aiohttp's, which read a token at half the cost of
its default ones) and errors. The client's models are left out, since they cost more than the rest of a token's way, and
so is its event reader, which takes a line of any length. Not here: requests, and the meaning of answers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address

import aiohttp
import anyio
import httpx2
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, DefaultAioHttpClient, OpenAIError

from shared.model.bounds import EVENT_BYTES
from shared.model.errors import (
    AttemptFailed,
    EventTooLarge,
    ProviderGarbage,
    ProviderRefused,
    ProviderUnreachable,
    StartupError,
)
from worker.upstream.wire.answer_body import NotUnderstood, WebPage, read_error_body
from worker.upstream.wire.disclosure import Asked, disclose, quotation
from worker.upstream.wire.quotation import quoted
from worker.upstream.wire.redaction import without_keys
from worker.upstream.wire.refusals import Refusal, Refused, refusal_of
from worker.upstream.wire.retry_after import retry_after_s

log = structlog.get_logger()

CONNECT_S = 5.0

_DRAIN_S = 0.1
_LATE_S = 0.5
# The length of a quotation from an answer that is not understood.
_QUOTED_CHARS = 100
_ALL_SCHEMES = ("all://", "http://", "https://")
# The client lets these of aiohttp's through: the answer is not HTTP, or its head is too large.
_NOT_HTTP = (aiohttp.ClientError, HttpProcessingError)


class Redirected(Exception):
    """The answer is a redirect."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location


class HttpUpstream:
    """The upstream at `base_url`, as in `https://api.openai.com/v1`. A local server may need no `api_key`."""

    def __init__(self, name: str, base_url: str, api_key: str | None = None) -> None:
        """Make the client; nothing is sent yet.

        Raises:
            StartupError: the address or the key can't be one.
        """
        self.name = name
        self._key = api_key
        self._client = AsyncOpenAI(
            base_url=_checked_url(base_url),
            api_key=_checked_key(api_key),
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},  # compression holds tokens back
            http_client=DefaultAioHttpClient(
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                # The worker's slots are the limit; 0 sets no other one.
                limits=httpx2.Limits(max_connections=0, keepalive_expiry=30.0),
                event_hooks={"response": [_bound]},
                # A redirect would carry the request, prompt and key, to an address that is not configured.
                follow_redirects=False,
                # The proxies of the environment are for other machines.
                mounts=dict.fromkeys(_ALL_SCHEMES) if is_loopback(httpx2.URL(base_url).host) else None,
            ),
        )
        # The client took these from the environment, which only shared/config/settings.py reads.
        self._client.organization = self._client.project = None

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        """Send a body of JSON; leaving the context closes the answer.

        Raises:
            Refused: the answer is an error of HTTP.
            Redirected: it is a redirect.
            WebPage: it calls itself one.
        """
        try:
            answer = await self._post(path, body)
        except APIStatusError as error:
            raise _refused(error.response) from error
        async with answer as stream:
            _refuse_web_page(stream.response)
            yield stream.response

    @asynccontextmanager
    async def get(self, path: str) -> AsyncIterator[httpx2.Response]:
        """Ask for a document; else as `post`."""
        try:
            answer = await self._client.get(path, cast_to=object, stream=True, stream_cls=AsyncStream[object])
        except APIStatusError as error:
            raise _refused(error.response) from error
        async with answer as stream:
            _refuse_web_page(stream.response)
            yield stream.response

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _post(self, path: str, body: bytes) -> AsyncStream[object]:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            return await self._post_once(path, body)
        except APIConnectionError as error:
            if not _was_not_sent(error) and not (
                _could_not_connect(error) and loop.time() - asked_at >= CONNECT_S + _LATE_S
            ):
                raise
        # Nothing was sent that could be paid for twice. Either a kept connection had been closed by the other side, as
        # some servers do without a word. Or the connection's time-out came too late for one: this process was frozen,
        # its clock ran on, and the upstream has done nothing wrong (or it has several addresses, and none answers).
        return await self._post_once(path, body)

    async def _post_once(self, path: str, body: bytes) -> AsyncStream[object]:
        return await self._client.post(path, cast_to=object, content=body, stream=True, stream_cls=AsyncStream[object])

    # Errors.

    @contextmanager
    def faults(self, asked: Asked) -> Iterator[None]:
        """Turn each fault of a call, and of reading its answer, into an error of the tree.

        The upstream's own words are shown only as far as they are about what was `asked`; the log has the rest.
        """
        try:
            yield
        except Refused as error:
            raise self.failure(error.refusal, asked, error.headers) from error
        except Redirected as error:
            self._log("redirected", _without_credentials(error.location))
            sentence = f"The provider {self.name} answered with {error.status}, a redirect: is its URL right?"
            raise ProviderRefused(sentence) from error
        except WebPage as error:
            sentence = f"The provider {self.name} answered with a web page: is its URL right?"
            raise ProviderGarbage(sentence) from error
        except NotUnderstood as error:
            words = quotation(error.text, asked.has, self._key, _QUOTED_CHARS)
            begins = f" It begins: {words}" if words else ""
            raise ProviderGarbage(f"The provider {self.name} {error.trouble}.{begins}") from error
        except EventTooLarge as error:
            raise ProviderGarbage(f"The provider {self.name} sent an event of over {EVENT_BYTES} bytes.") from error
        except (OpenAIError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            self._log("unreachable", str(cause) or type(cause).__name__)
            raise ProviderUnreachable(f"The connection to the provider {self.name} failed.") from error
        except _NOT_HTTP as error:
            raise ProviderGarbage(f"The provider {self.name} sent something that is not HTTP.") from error

    def failure(self, refusal: Refusal, asked: Asked, headers: Mapping[str, str] | None = None) -> AttemptFailed:
        """Return the error of an attempt that ended with this refusal."""
        disclosed = disclose(refusal, self.name, asked, secret=self._key, retry_after_s=retry_after_s(headers or {}))
        if disclosed.hidden:
            self._log("refused", disclosed.hidden, code=refusal.code, status=refusal.status)
        return disclosed.error

    def _log(self, trouble: str, words: str, **about: object) -> None:
        """Log an upstream's words that its callers do not see."""
        log.warning(f"provider.{trouble}", provider=self.name, words=quoted(without_keys(words, self._key)), **about)


def _refuse_web_page(response: httpx2.Response) -> None:
    """Raise WebPage if the answer calls itself one."""
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
        raise WebPage


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of a body, if it comes at once: only then can the connection be used again."""
    with anyio.move_on_after(_DRAIN_S):
        async for _ in pieces:
            pass


def _refused(response: httpx2.Response) -> Refused | Redirected:
    if 300 <= response.status_code < 400:
        return Redirected(response.status_code, response.headers.get("location", ""))
    about = read_error_body(response.content, EVENT_BYTES)
    return Refused(refusal_of(about, response.status_code), response.headers)


def _without_credentials(location: str) -> str:
    """Return an address without its user, password, query and fragment."""
    try:
        url = httpx2.URL(location)
    except httpx2.InvalidURL:
        return "an address that is not valid"
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def is_loopback(host: str) -> bool:
    """Return whether this host is the machine itself."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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
        raise ProviderGarbage(f"The provider sent a compressed answer ({self._encoding}), which was not asked for.")

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


def _could_not_connect(error: APIConnectionError) -> bool:
    """Return whether it is the time-out of the connection: aiohttp's breaks count as time-outs too."""
    cause = error.__cause__
    return isinstance(cause, httpx2.ConnectTimeout) and isinstance(cause.__cause__, TimeoutError)


def _was_not_sent(error: APIConnectionError) -> bool:
    """Return whether the request could not be written to an open connection: only aiohttp's words show that."""
    cause = error.__cause__.__cause__ if error.__cause__ is not None else None
    return isinstance(cause, aiohttp.ClientOSError) and "Can not write request body" in str(cause)


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


def _checked_key(api_key: str | None) -> str:
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise StartupError("The upstream's API key may hold only printable ASCII characters.")
    return api_key or "none"  # the client insists on one
