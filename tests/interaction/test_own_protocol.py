"""A provider's protocol that only this file knows: registered, configured by its name, and asked through a gateway.

Its API is HTTP, so that it shows what HTTP providers share. Not here: OpenAI's protocol (tests/contract).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import pytest

from shared.config.route_settings import ProviderSettings
from shared.config.settings import Settings
from shared.model.routes import Upstream
from tests.support.system import System, ask, running_system, running_worker
from worker.configured_providers import make_providers
from worker.upstream.providers.http_upstream import HttpUpstream
from worker.upstream.providers.protocols import BUILT_IN_PROTOCOLS, ProviderProtocol, required_url
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.disclosure import SentRequest

KEY = "k-secret"
STOP = Chunk(finished=((0, "stop"),))


class LinesCaller:
    """Sends requests with the credentials of this API."""

    def __init__(self, key: str, http: httpx2.AsyncClient) -> None:
        self._key = key
        self._http = http

    async def send(self, path: str, body: bytes | None) -> httpx2.Response:
        request = self._http.build_request("POST", path, content=body, headers={"x-key": self._key})
        return await self._http.send(request, stream=True)

    async def close(self) -> None:
        await self._http.aclose()


class Lines:
    """A provider that answers a prompt with lines of text, each of which is a token. It can't embed."""

    def __init__(self, upstream: Upstream) -> None:
        assert upstream.api_key is not None
        key = upstream.api_key.get_secret_value()
        self.name = upstream.name
        self._http = HttpUpstream(upstream.name, required_url(upstream), key, partial(LinesCaller, key))

    @asynccontextmanager
    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Chunk]]:
        async with aclosing(self._chunks(request)) as chunks:
            yield chunks

    async def _chunks(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        prompt: str = request["messages"][-1]["content"]
        with self._http.faults(SentRequest(request)):
            async with self._http.post("speak", prompt.encode()) as response:
                async for line in response.aiter_lines():
                    yield Chunk(deltas=({"content": line},))
                yield STOP

    async def models(self) -> list[str]:
        return ["lines-1"]

    async def close(self) -> None:
        await self._http.close()


PROTOCOLS = BUILT_IN_PROTOCOLS.adding(ProviderProtocol("lines", Lines))


class Speaker:
    """The API behind the protocol: it repeats each prompt, a line for each word. It records the heads of requests."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.status = "200 OK"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.heads.append(head)
        prompt = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        body = b"".join(word + b"\n" for word in prompt.split())
        writer.write(f"HTTP/1.1 {self.status}\r\nRetry-After: 7\r\nContent-Length: {len(body)}\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + body)
        writer.close()


@pytest.fixture
def speaker() -> Speaker:
    """The API."""
    return Speaker()


@pytest.fixture
async def system(settings: Settings, speaker: Speaker) -> AsyncIterator[System]:
    """Start a gateway, and a worker with one provider, of the protocol in this file."""
    async with await asyncio.start_server(speaker.talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = {"protocol": "lines", "base_url": f"http://127.0.0.1:{port}/api", "api_key": KEY}
        providers = {"speaker": ProviderSettings.model_validate(provider)}
        settings = settings.model_copy(update={"upstream_url": None, "providers": providers})
        opened = make_providers(settings, PROTOCOLS)
        async with running_system(settings) as running, running_worker(settings, opened):
            yield running


async def test_a_chat_job_is_answered_by_the_protocol_that_was_registered(system: System, speaker: Speaker) -> None:
    job_id = await system.submit(ask("one two three", model="lines-1"))
    story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.types == ["queued", "started", "delta", "delta", "delta", "completed"]
    assert (story.text, story.end["finish_reason"]) == ("onetwothree", "stop")
    assert [(each["provider"], each["model"]) for each in job["attempts"]] == [("speaker", "lines-1")]
    (head,) = speaker.heads
    assert head.startswith("post /api/speak ")
    assert f"x-key: {KEY}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "authorization" not in head


async def test_openais_callers_are_answered_by_it_too(system: System) -> None:
    answer = await system.client.post("/v1/chat/completions", ask("one two", model="lines-1"))

    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == "onetwo"


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [("401 Unauthorized", 502, "upstream_auth"), ("429 Too Many Requests", 429, "rate_limit_exceeded")],
)
async def test_the_errors_of_its_api_are_those_of_all_http_providers(
    system: System, speaker: Speaker, status: str, answered: int, code: str
) -> None:
    speaker.status = status
    answer = await system.client.post("/v1/chat/completions", ask("Hello?", model="lines-1"))

    assert (answer.status, answer.json()["error"]["code"]) == (answered, code)


async def test_embeddings_are_refused_in_a_sentence_that_names_provider_and_model(
    system: System, speaker: Speaker
) -> None:
    answer = await system.client.post("/v1/embeddings", {"model": "lines-1", "input": "one"})
    job_id = await system.submit({"kind": "embeddings", "model": "lines-1", "input": ["one"]})
    story = await system.story(job_id)

    sentence = "The provider speaker has no embeddings, so its model lines-1 can't embed."
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.json()["error"]["message"] == sentence
    assert (story.types, story.code) == (["queued", "started", "failed"], "model_not_found")
    assert story.end["error"]["message"] == sentence
    assert speaker.heads == []
