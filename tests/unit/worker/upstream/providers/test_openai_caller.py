"""Test the calls of OpenAI's API: each is the one that its official client would send, and each answer is returned."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from openai import AsyncOpenAI, AsyncStream

from worker.upstream.providers.openai_caller import OpenAICaller

BODY = b'{"model": "m"}'
TIMEOUT = httpx2.Timeout(None, connect=5.0)


class Wire(httpx2.AsyncBaseTransport):
    """Takes each request, and gives the same answer."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.answer: int | httpx2.HTTPError = 200

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if isinstance(self.answer, httpx2.HTTPError):
            raise self.answer
        return httpx2.Response(self.answer, stream=httpx2.ByteStream(b'{"error": {}}'))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def http(wire: Wire) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client with the rules of http_client.py that change a request."""
    async with httpx2.AsyncClient(transport=wire, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT) as client:
        yield client


@pytest.mark.parametrize("base_url", ["http://host/v1", "http://host/v1/", "http://host", "https://host/a?version=1"])
@pytest.mark.parametrize("key", ["sk-1", None])
async def test_a_call_is_the_one_of_the_official_client(
    wire: Wire, http: httpx2.AsyncClient, base_url: str, key: str | None
) -> None:
    official = AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0, http_client=http)
    caller = OpenAICaller(base_url, key, http)

    await official.post("/chat/completions", cast_to=object, content=BODY, stream=True, stream_cls=AsyncStream[object])
    await official.get("/models", cast_to=object, stream=True, stream_cls=AsyncStream[object])
    for _ in range(2):
        await caller.send("/chat/completions", BODY)
        await caller.send("/models", None)

    post, get, *ours = wire.requests
    for theirs, our in zip((post, get, post, get), ours, strict=True):
        assert (our.method, our.url, our.headers) == (theirs.method, theirs.url, theirs.headers)
        assert our.extensions["timeout"] == theirs.extensions["timeout"] == TIMEOUT.as_dict()
        assert await our.aread() == await theirs.aread()


async def test_the_environment_adds_no_header(
    wire: Wire, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    await OpenAICaller("http://host/v1", "sk-1", http).send("/models", None)
    assert not [name for name in wire.requests[0].headers if name.startswith("openai-")]


@pytest.mark.parametrize("status", [200, 302, 400, 500])
async def test_an_answer_of_any_status_is_returned_unread(wire: Wire, http: httpx2.AsyncClient, status: int) -> None:
    wire.answer = status
    answer = await OpenAICaller("http://host/v1", None, http).send("/chat/completions", BODY)
    assert answer.status_code == status
    assert not answer.is_stream_consumed


async def test_a_broken_connection_is_raised_as_it_is(wire: Wire, http: httpx2.AsyncClient) -> None:
    wire.answer = httpx2.ConnectError("refused")
    with pytest.raises(httpx2.ConnectError, match="refused"):
        await OpenAICaller("http://host/v1", None, http).send("/chat/completions", BODY)
    assert len(wire.requests) == 1


async def test_closing_closes_the_connections(http: httpx2.AsyncClient) -> None:
    await OpenAICaller("http://host/v1", None, http).close()
    assert http.is_closed
