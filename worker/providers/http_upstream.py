"""The HTTP side of an upstream: connections, authentication, bounds of bodies, and faults as errors of the tree.

It uses the official client of OpenAI for authentication, connections (aiohttp's, which read a token at half the cost of
its default ones) and errors. The client's models are left out, since they cost more than the rest of a token's way, and
so is its event reader, which takes a line of any length. Not here: requests, and the meaning of answers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime

import aiohttp
import anyio
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, DefaultAioHttpClient, OpenAIError

from shared.bounds import EVENT_BYTES
from shared.errors import AttemptFailed, EventTooLarge, ProviderGarbage, ProviderUnreachable, StartupError
from worker.providers.answer_body import NotUnderstood, WebPage, read_error_body
from worker.providers.quotation import quoted
from worker.providers.refusals import Refusal, Refused, refusal_of

CONNECT_S = 5.0

_DRAIN_S = 0.1
_LATE_S = 0.5
# So much is quoted of an answer that is not understood.
_QUOTED_CHARS = 100
# The client lets these of aiohttp's through: the answer is not HTTP, or its head is too large.
_NOT_HTTP = (aiohttp.ClientError, HttpProcessingError)


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
            ),
        )
        # The client took these from the environment, which only shared/settings.py reads.
        self._client.organization = self._client.project = None

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        """Send a body of JSON; leaving the context closes the answer.

        Raises:
            Refused: the answer is an error of HTTP.
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
        # its clock went on, and the upstream has done nothing wrong (or it has several addresses, and none answers).
        return await self._post_once(path, body)

    async def _post_once(self, path: str, body: bytes) -> AsyncStream[object]:
        return await self._client.post(path, cast_to=object, content=body, stream=True, stream_cls=AsyncStream[object])

    # Errors.

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn each fault of a call, and of reading its answer, into an error of the tree."""
        try:
            yield
        except Refused as error:
            raise self.failure(error.refusal, error.headers) from error
        except WebPage as error:
            sentence = f"The provider {self.name} answered with a web page: is its URL right?"
            raise ProviderGarbage(sentence) from error
        except NotUnderstood as error:
            quotation = quoted(error.text, self._key, _QUOTED_CHARS)
            begins = f" It begins: {quotation}" if quotation else ""
            raise ProviderGarbage(f"The provider {self.name} {error.trouble}.{begins}") from error
        except EventTooLarge as error:
            raise ProviderGarbage(f"The provider {self.name} sent an event of over {EVENT_BYTES} bytes.") from error
        except (OpenAIError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            why = quoted(str(cause), self._key) or type(cause).__name__
            raise ProviderUnreachable(f"The connection to the provider {self.name} failed: {why}") from error
        except _NOT_HTTP as error:
            raise ProviderGarbage(f"The provider {self.name} sent something that is not HTTP.") from error

    def failure(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> AttemptFailed:
        """Return the error of an attempt that ended with this refusal."""
        return refusal.failure(self.name, quoted(refusal.said, self._key), _retry_after_s(headers or {}))


def _refuse_web_page(response: httpx2.Response) -> None:
    """Raise WebPage if the answer calls itself one."""
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
        raise WebPage


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of a body, if it comes at once: only then can the connection be used again."""
    with anyio.move_on_after(_DRAIN_S):
        async for _ in pieces:
            pass


def _refused(response: httpx2.Response) -> Refused:
    about = read_error_body(response.content, EVENT_BYTES)
    return Refused(refusal_of(about, response.status_code), response.headers)


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
    """Whether it is the time-out of the connection: aiohttp's breaks count as time-outs too."""
    cause = error.__cause__
    return isinstance(cause, httpx2.ConnectTimeout) and isinstance(cause.__cause__, TimeoutError)


def _was_not_sent(error: APIConnectionError) -> bool:
    """Whether there was a connection, and the request could not be written to it: only aiohttp's words show that."""
    cause = error.__cause__.__cause__ if error.__cause__ is not None else None
    return isinstance(cause, aiohttp.ClientOSError) and "Can not write request body" in str(cause)


def _checked_url(base_url: str) -> str:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise StartupError("The upstream's URL must be like https://api.openai.com/v1.")
    return base_url


def _checked_key(api_key: str | None) -> str:
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise StartupError("The upstream's API key may hold only printable ASCII characters.")
    return api_key or "none"  # the client insists on one


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long to wait, in seconds, from `retry-after-ms` (OpenAI) or `Retry-After` (RFC 9110 §10.2.3)."""
    after = headers.get("retry-after", "")
    for text, unit in ((headers.get("retry-after-ms", ""), 0.001), (after, 1.0)):
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:  # a date, by the same clock as `Date`
        wait = parsedate_to_datetime(after) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
