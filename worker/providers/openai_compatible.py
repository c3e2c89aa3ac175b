"""An upstream that speaks OpenAI's chat completions, through the official client.

Above: fallback.py, which owns the time-outs, so none here waits but the one for a connection. The client does
authentication, connections and errors; its models are left out (they cost more than the rest of a token's way),
and so is its event reader, which takes a line of any length. Retries are the worker's, never the client's.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient, OpenAIError

from shared.errors import (
    AttemptFailed,
    ProviderGarbage,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    StartupError,
)
from worker.providers.base import Chunk, read_chunk

CONNECT_S = 5.0
MODELS_S = 10.0
MAX_BYTES = 8 * 1024 * 1024
"""The largest event, error or list of models: an upstream may not fill the memory (design.md, invariant 7)."""

_DRAIN_S = 0.1
_MAX_SENTENCE = 500


class OpenAICompatible:
    """The upstream at `base_url`, as in `https://api.openai.com/v1`. Local servers need no `api_key`."""

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
            # Compression only delays tokens.
            default_headers={"Accept-Encoding": "identity"},
            http_client=DefaultAsyncHttpxClient(
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                # The worker's slots are the limit.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30),
                event_hooks={"response": [_bound]},
            ),
        )
        # The client has read them from the environment; only shared/settings.py does.
        self._client.organization = self._client.project = None

    @property
    def name(self) -> str:
        """How `started` events and logs call it."""
        return self._name

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Send a chat request when the first chunk is asked for.

        Raises:
            ProviderUnreachable: no connection, or a broken one.
            ProviderRefused: an error, before the stream or in it.
            ProviderTimeout: the upstream says that something behind it took too long.
            ProviderGarbage: an answer that is not the protocol.
        """
        chunks = self._chunks(request)
        try:
            yield chunks
        finally:
            # A cancelled scope must not stop us from closing the socket.
            with anyio.CancelScope(shield=True):
                await chunks.aclose()

    async def models(self) -> list[str]:
        """The names of the models, from `GET /models`. Raises as `stream` does."""
        try:
            with anyio.fail_after(MODELS_S):
                answer = await self._client.get("/models", cast_to=object)
            return _model_ids(answer)
        except TimeoutError:
            raise ProviderTimeout(f"{self._name} did not list its models in {MODELS_S:g} s.") from None
        except _FAULTS as error:
            raise self._fault(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _chunks(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        options = {**(request.get("stream_options") or {}), "include_usage": True}
        body = json.dumps({**request, "stream": True, "stream_options": options}).encode()
        try:
            async with await self._client.post(
                "/chat/completions", cast_to=object, content=body, stream=True, stream_cls=AsyncStream[object]
            ) as stream:
                response = stream.response
                match response.headers.get("content-type", "").partition(";")[0]:
                    case "application/json":  # it can't stream, or is at odds with the request
                        yield self._chunk(_streamed(json.loads(await response.aread())))
                    case "text/html":
                        raise ProviderGarbage(
                            f"{self._name} answered with a web page: its URL is not that of an API, as in http://host/v1."
                        )
                    case _:
                        async with aclosing(response.aiter_bytes()) as pieces:
                            async for chunk in self._read(pieces):
                                yield chunk
        except _FAULTS as error:
            raise self._fault(error) from error
