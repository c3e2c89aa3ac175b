"""The calls of OpenAI's API, with the headers of its official client.

The client's models are left out, since they cost more than the rest of a token's way, and so is its event reader, which
takes a line of any length. Not here: the rules of the connection (worker/upstream/providers/http_client.py),
and requests (worker/upstream/providers/openai_compatible.py).
"""

import httpx2
from openai import APIStatusError, AsyncOpenAI, AsyncStream, OpenAIError


class OpenAICaller:
    """Sends requests to the API at `base_url`, over the connections of `http`."""

    def __init__(self, base_url: str, api_key: str | None, http: httpx2.AsyncClient) -> None:
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # the client insists on one
            max_retries=0,
            http_client=http,
        )
        # The client took these from the environment, which only shared/config/settings.py reads.
        self._client.organization = self._client.project = None

    async def send(self, path: str, body: bytes | None) -> httpx2.Response:
        """Send a request, see `HttpCaller`."""
        try:
            return await (self._get(path) if body is None else self._post(path, body))
        except APIStatusError as error:
            return error.response
        except OpenAIError as error:
            cause = error.__cause__
            failure = cause if isinstance(cause, httpx2.HTTPError) else httpx2.TransportError(str(error))
            # Its own cause says whether anything was sent.
            raise failure from failure.__cause__

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _get(self, path: str) -> httpx2.Response:
        answer = await self._client.get(path, cast_to=object, stream=True, stream_cls=AsyncStream[object])
        return answer.response

    async def _post(self, path: str, body: bytes) -> httpx2.Response:
        answer = await self._client.post(
            path, cast_to=object, content=body, stream=True, stream_cls=AsyncStream[object]
        )
        return answer.response
