"""The HTTP side of an upstream, whichever API it has: calls, their one repetition, and faults as errors of the tree.

A provider's protocol brings an `HttpCaller`, which writes the headers of its API. Not here: requests, the meaning of
answers, and the client with its rules (worker/upstream/providers/http_client.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import aiohttp
import anyio
import httpx2
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from shared.model.bounds import EVENT_BYTES
from shared.model.errors import (
    AttemptFailed,
    EventTooLarge,
    ProviderGarbage,
    ProviderRefused,
    ProviderUnreachable,
)
from worker.upstream.providers.http_client import checked_key, open_http_client
from worker.upstream.wire.answer_body import NotUnderstood, WebPage, read_error_body
from worker.upstream.wire.disclosure import SentRequest, disclose, quotation
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
# The client lets these of aiohttp's through: the answer is not HTTP, or its head is too large.
_NOT_HTTP = (aiohttp.ClientError, HttpProcessingError)


class Redirected(Exception):
    """The answer is a redirect."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location


class HttpCaller(Protocol):
    """Sends the requests of one API, with the headers of that API and its credentials."""

    async def send(self, path: str, body: bytes | None) -> httpx2.Response:
        """Send a body of JSON with POST, or request a document with GET if there is none.

        Return the answer, whatever its status is, before its body is read; the body of an error may be read already.

        Raises:
            HTTPError: no answer has come.
        """
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class HttpUpstream:
    """The upstream at `base_url`, as in `https://api.openai.com/v1`. A local server may need no `api_key`.

    `caller` makes the caller of its API over the client.
    """

    def __init__(
        self, name: str, base_url: str, api_key: str | None, caller: Callable[[httpx2.AsyncClient], HttpCaller]
    ) -> None:
        """Open the client; nothing is sent yet.

        Raises:
            StartupError: the address or the key can't be one.
        """
        self.name = name
        self._key = checked_key(api_key)
        self._caller = caller(open_http_client(base_url, connect_s=CONNECT_S))

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        """Send a body of JSON; leaving the context closes the answer.

        Raises:
            Refused: the answer is an error of HTTP.
            Redirected: it is a redirect.
            WebPage: it calls itself one.
        """
        async with _accepted(await self._post(path, body)) as response:
            yield response

    @asynccontextmanager
    async def get(self, path: str) -> AsyncIterator[httpx2.Response]:
        """Request a document; else as `post`."""
        async with _accepted(await self._caller.send(path, None)) as response:
            yield response

    async def close(self) -> None:
        """Close all connections."""
        await self._caller.close()

    async def _post(self, path: str, body: bytes) -> httpx2.Response:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            return await self._caller.send(path, body)
        except httpx2.HTTPError as error:
            if not _was_not_sent(error) and not (
                _could_not_connect(error) and loop.time() - asked_at >= CONNECT_S + _LATE_S
            ):
                raise
        # Nothing was sent that could be paid for twice. Either a kept connection had been closed by the other side, as
        # some servers do without a word. Or the connection's time-out came too late for one: this process was frozen,
        # its clock ran on, and the upstream has done nothing wrong (or it has several addresses, and none answers).
        return await self._caller.send(path, body)

    # Errors.

    @contextmanager
    def faults(self, asked: SentRequest) -> Iterator[None]:
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
        except httpx2.HTTPError as error:
            self._log("unreachable", str(error) or type(error).__name__)
            raise ProviderUnreachable(f"The connection to the provider {self.name} failed.") from error
        except _NOT_HTTP as error:
            raise ProviderGarbage(f"The provider {self.name} sent something that is not HTTP.") from error

    def failure(self, refusal: Refusal, asked: SentRequest, headers: Mapping[str, str] | None = None) -> AttemptFailed:
        """Return the error of an attempt that ended with this refusal."""
        disclosed = disclose(refusal, self.name, asked, secret=self._key, retry_after_s=retry_after_s(headers or {}))
        if disclosed.hidden:
            self._log("refused", disclosed.hidden, code=refusal.code, status=refusal.status)
        return disclosed.error

    def _log(self, trouble: str, words: str, **about: object) -> None:
        """Log an upstream's words that its callers do not see."""
        log.warning(f"provider.{trouble}", provider=self.name, words=quoted(without_keys(words, self._key)), **about)


@asynccontextmanager
async def _accepted(response: httpx2.Response) -> AsyncIterator[httpx2.Response]:
    """Check the head of an answer; leaving the context closes the answer.

    Raises:
        Refused, Redirected, WebPage: it is not the answer of an API that accepted the request.
    """
    try:
        if not response.is_success:
            raise await _refused(response)
        if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
            raise WebPage
        yield response
    finally:
        await response.aclose()


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of a body, if it comes at once: only then can the connection be used again."""
    with anyio.move_on_after(_DRAIN_S):
        async for _ in pieces:
            pass


async def _refused(response: httpx2.Response) -> Refused | Redirected:
    if 300 <= response.status_code < 400:
        return Redirected(response.status_code, response.headers.get("location", ""))
    about = read_error_body(await response.aread(), EVENT_BYTES)
    return Refused(refusal_of(about, response.status_code), response.headers)


def _without_credentials(location: str) -> str:
    """Return an address without its user, password, query and fragment."""
    try:
        url = httpx2.URL(location)
    except httpx2.InvalidURL:
        return "an address that is not valid"
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def _could_not_connect(error: httpx2.HTTPError) -> bool:
    """Return whether it is the time-out of the connection: aiohttp's breaks count as time-outs too."""
    return isinstance(error, httpx2.ConnectTimeout) and isinstance(error.__cause__, TimeoutError)


def _was_not_sent(error: httpx2.HTTPError) -> bool:
    """Return whether the request could not be written to an open connection: only aiohttp's words show that."""
    cause = error.__cause__
    return isinstance(cause, aiohttp.ClientOSError) and "Can not write request body" in str(cause)
