"""The calls of OpenAI's API, with the address and the headers of its official client.

They are taken from the client once: to build them for each call costs 0.3 ms, a tenth of a short job. Its models are
left out, since they cost more than the rest of a token's way, and so is its event reader, which takes a line of any
length. Not here: the rules of the connection (worker/upstream/providers/http_client.py),
and requests (worker/upstream/providers/openai_compatible.py).
"""

import httpx2
from openai import AsyncOpenAI


class OpenAICaller:
    """Sends requests to the API at `base_url`, over the connections of `http`."""

    def __init__(self, base_url: str, api_key: str | None, http: httpx2.AsyncClient) -> None:
        client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # the client insists on one
            max_retries=0,
            http_client=http,
        )
        # The client took these from the environment, which only shared/config/settings.py reads.
        client.organization = client.project = None
        self._client = client
        self._http = http
        self._urls: dict[str, httpx2.URL] = {}
        named = {**client.auth_headers, **client.default_headers, "x-stainless-retry-count": "0"}
        # The client marks a header that is not sent by a value of its own.
        self._of_post = {name: value for name, value in named.items() if isinstance(value, str)}
        self._of_get = {name: value for name, value in self._of_post.items() if name != "Content-Type"}

    async def send(self, path: str, body: bytes | None) -> httpx2.Response:
        """Send a request, see `HttpCaller`."""
        if body is None:
            request = self._http.build_request("GET", self._url(path), headers=self._of_get)
        else:
            request = self._http.build_request("POST", self._url(path), headers=self._of_post, content=body)
        return await self._http.send(request, stream=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _url(self, path: str) -> httpx2.URL:
        if path not in self._urls:
            base = self._client.base_url
            self._urls[path] = base.copy_with(raw_path=base.raw_path + path.lstrip("/").encode())
        return self._urls[path]
