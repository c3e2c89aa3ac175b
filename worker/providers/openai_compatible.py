"""An upstream that speaks OpenAI's chat completions and embeddings, through the official client.

Above: fallback.py, which owns the time-outs: none here waits, but the one for a connection. The client does
authentication, connections (aiohttp's, which read a token at half the cost of its default ones) and errors. Its models
are left out, since they cost more than the rest of a token's way, and so is its event reader, which takes a line of any
length. Retries are the worker's.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import anyio
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, DefaultAioHttpClient, OpenAIError

from shared.bounds import EVENT_BYTES
from shared.errors import (
    AttemptFailed,
    EventTooLarge,
    ProviderGarbage,
    ProviderTimeout,
    ProviderUnreachable,
    StartupError,
)
from shared.sse_reader import EventReader
from worker.providers.base import Chunk
from worker.providers.chunk_reader import ChunkReader
from worker.providers.quotation import quoted
from worker.providers.refusals import Refusal, refusal_in, refusal_of
from worker.providers.upstream_json import decode_json
from worker.providers.vectors import Vectors, read_vectors

CONNECT_S = 5.0
MODELS_S = 10.0

_DRAIN_S = 0.1
_SEED_BYTES = 8
_LATE_S = 0.5
# What can come out of the client, and of reading what came.
_FAULTS = (OpenAIError, httpx2.HTTPError, aiohttp.ClientError, HttpProcessingError, ValueError, RecursionError)
# What the client lets through of aiohttp's: an answer that is no HTTP, or whose head is too large.
_NO_HTTP = (aiohttp.ClientError, HttpProcessingError)


class OpenAICompatible:
    """The upstream at `base_url`, as in `https://api.openai.com/v1`. A local server may need no `api_key`."""

    def __init__(self, name: str, base_url: str, api_key: str | None = None) -> None:
        """Nothing is sent yet.

        Raises:
            StartupError: the address or the key can't be one.
        """
        self._name = name
        self._key = api_key
        self._client = AsyncOpenAI(
            base_url=_checked_url(base_url),
            api_key=_checked_key(api_key),
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},  # compression holds tokens back
            http_client=DefaultAioHttpClient(
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                # The worker's slots are the limit: 0 is none.
                limits=httpx2.Limits(max_connections=0, keepalive_expiry=30.0),
                event_hooks={"response": [_bound]},
            ),
        )
        # The client took these from the environment, which only shared/settings.py reads.
        self._client.organization = self._client.project = None

    @property
    def name(self) -> str:
        """How `started` events and logs call it."""
        return self._name

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Send a chat request, when the first chunk is asked for.

        Raises:
            ProviderUnreachable: there is no connection, or it broke.
            ProviderRefused: the answer is an error, or one comes in mid-stream.
            ProviderTimeout: the upstream says that something behind it took too long.
            ProviderGarbage: the answer is not the protocol.
        """
        async with aclosing(self._chunks(request)) as chunks:
            yield chunks

    async def embed(self, request: Mapping[str, Any]) -> Vectors:
        """Send an embeddings request. Raises as `stream` does."""
        body = json.dumps({**request, "encoding_format": "base64"}).encode()
        try:
            async with await self._post("/embeddings", body) as stream:
                answer = await self._whole(stream.response)
            if refusal := refusal_in(answer):
                raise self._failure(refusal)
            return read_vectors(answer, len(request["input"]))
        except _FAULTS as error:
            raise self._fault(error) from error

    async def _whole(self, response: httpx2.Response) -> object:
        """An answer in JSON, which is bounded, see `_bound`."""
        if _media_type(response) != "application/json":
            raise ProviderGarbage(
                f"The provider {self._name} answered with something else than JSON: is its URL right?"
            )
        return decode_json(b"".join([piece async for piece in response.aiter_bytes()]).decode())

    async def models(self) -> list[str]:
        """The names of the models, from `GET /models`. Raises as `stream` does."""
        try:
            with anyio.fail_after(MODELS_S):
                return _model_ids(await self._client.get("/models", cast_to=object))
        except TimeoutError:
            sentence = f"The provider {self._name} did not list its models within {MODELS_S:g} s."
            raise ProviderTimeout(sentence) from None
        except _FAULTS as error:
            raise self._fault(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    @asynccontextmanager
    async def _opened(self, request: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        async with await self._post("/chat/completions", _body(request)) as stream:
            yield stream.response

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

    async def _chunks(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        reader = ChunkReader(secrets.token_hex(_SEED_BYTES), self._failed_choice)
        try:
            async with self._opened(request) as response, aclosing(response.aiter_bytes()) as pieces:
                if _media_type(response) == "text/html":
                    raise ProviderGarbage(f"The provider {self._name} answered with a web page: is its URL right?")
                if _media_type(response) == "application/json":
                    yield self._chunk(reader, decode_json(b"".join([piece async for piece in pieces]).decode()))
                    for rest in reader.end():
                        yield rest
                    return
                events = EventReader(EVENT_BYTES)
                async for piece in pieces:
                    for event in events.feed(piece):
                        text = event.text.strip()
                        if text == "[DONE]":
                            for rest in reader.end():
                                yield rest
                            await _drain(pieces)
                            return
                        if text:
                            yield self._chunk(reader, decode_json(text))
                for rest in reader.end():
                    yield rest
        except EventTooLarge as error:
            raise ProviderGarbage(f"The provider {self._name} sent an event of over {EVENT_BYTES} bytes.") from error
        except _FAULTS as error:
            raise self._fault(error) from error

    def _chunk(self, reader: ChunkReader, data: object) -> Chunk:
        if refusal := refusal_in(data):
            raise self._failure(refusal)
        return reader.read(data)

    def _failed_choice(self, error: object) -> AttemptFailed:
        # A passing fault, if it does not say more: the upstream had accepted the request.
        return self._failure(refusal_of(error, otherwise="server_error"))

    def _fault(self, error: Exception) -> AttemptFailed:
        if isinstance(error, APIStatusError):
            return self._failure(refusal_of(error.body, error.response.status_code), error.response.headers)
        if isinstance(error, OpenAIError | httpx2.HTTPError):
            cause = error.__cause__ or error
            why = self._shown(str(cause)) or type(cause).__name__
            return ProviderUnreachable(f"The connection to the provider {self._name} failed: {why}")
        if isinstance(error, _NO_HTTP):
            return ProviderGarbage(f"The provider {self._name} sent something that is no HTTP.")
        return ProviderGarbage(f"The provider {self._name} sent something that is no JSON.")

    def _failure(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> AttemptFailed:
        """Return the error of an attempt that ended with this refusal."""
        return refusal.failure(self._name, self._shown(refusal.said), _retry_after_s(headers or {}))

    def _shown(self, said: str) -> str:
        return quoted(said, self._key)


class _Bounded(httpx2.AsyncByteStream):
    """A response's body that may not be over `EVENT_BYTES`."""

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
        await self.aclose()  # the client leaves it open where it has an error's body to read
        raise ProviderGarbage(f"The provider sent a compressed answer ({self._encoding}), which nobody asked for.")

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        return
    encoding = response.headers.get("content-encoding", "").strip().lower()
    is_stream = response.is_success and _media_type(response) != "application/json"
    if encoding not in ("", "identity"):
        response.stream = _Compressed(response.stream, quoted(encoding))
    elif not is_stream:
        response.stream = _Bounded(response.stream)


def _could_not_connect(error: APIConnectionError) -> bool:
    """Whether it is the time-out of the connection: aiohttp's breaks count as time-outs too."""
    cause = error.__cause__
    return isinstance(cause, httpx2.ConnectTimeout) and isinstance(cause.__cause__, TimeoutError)


def _was_not_sent(error: APIConnectionError) -> bool:
    """Whether there was a connection, and the request could not be written to it: only aiohttp's words tell."""
    cause = error.__cause__.__cause__ if error.__cause__ is not None else None
    return isinstance(cause, aiohttp.ClientOSError) and "Can not write request body" in str(cause)


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the body, if it comes at once: only then can the connection be used again."""
    with anyio.move_on_after(_DRAIN_S):
        async for _ in pieces:
            pass


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


def _body(request: Mapping[str, Any]) -> bytes:
    given = request.get("stream_options")
    options = {**(given if isinstance(given, dict) else {}), "include_usage": True}
    return json.dumps({**request, "stream": True, "stream_options": options}).encode()


def _model_ids(answer: object) -> list[str]:
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        raise ProviderGarbage("The provider's list of models is none.")
    ids = [model.get("id") for model in models if isinstance(model, dict)]
    return [model_id for model_id in ids if isinstance(model_id, str)]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long to wait, in seconds, from `retry-after-ms` (OpenAI) or `Retry-After` (RFC 9110 §10.2.3)."""
    after = headers.get("retry-after", "")
    for text, unit in ((headers.get("retry-after-ms", ""), 0.001), (after, 1.0)):
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:  # a date, told by the same clock as `Date`
        wait = parsedate_to_datetime(after) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
