"""Test embeddings of an upstream: their request, forms, failures and bounds."""

import asyncio
import json
from typing import Any

import pytest

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderRefused, ProviderTimeout, ProviderUnreachable
from tests.contract.openai_provider.reading import KEY
from tests.support.upstream import TIMEOUT_S, Upstream
from worker.upstream.providers import http_client, http_upstream, openai_compatible
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.scripted import MODEL
from worker.upstream.providers.scripted import embed as scripted_answer
from worker.upstream.wire.vectors import Vectors, read_vectors

TOO_LONG = {
    "error": {
        "code": 500,
        "message": "input (901 tokens) is too large to process. increase the physical batch size",
        "type": "server_error",
    }
}


def embedding(*inputs: Any, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": list(inputs), **fields}


def scripted(**script: Any) -> str:
    """Build an input that makes the upstream do this."""
    return json.dumps({"script": script})


async def embed(provider: OpenAICompatible, *inputs: Any, **fields: Any) -> Vectors:
    async with asyncio.timeout(TIMEOUT_S):
        return await provider.embed(embedding(*inputs, **fields))


async def test_vectors_are_asked_for_in_base64_and_come_through(provider: OpenAICompatible, upstream: Upstream) -> None:
    vectors = await embed(provider, "one", [1, 2], user="me", dimensions=5)

    body = upstream.requests[0].body
    assert body == {**embedding("one", [1, 2], user="me", dimensions=5), "encoding_format": "base64"}
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert vectors == read_vectors(scripted_answer(embedding("one", [1, 2], dimensions=5)), 2)
    assert (vectors.dimensions, vectors.prompt_tokens) == (5, 3)


async def test_lists_of_numbers_are_taken_too(provider: OpenAICompatible) -> None:
    in_floats = scripted_answer(embedding("one"))

    assert await embed(provider, scripted(http={"body": in_floats})) == read_vectors(in_floats, 1)


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        ({"fault": "refuse", "code": "rate_limit_exceeded"}, ProviderRefused, "rate_limit_exceeded"),
        ({"http": {"status": 400, "body": {"error": {"message": "No.", "param": "input"}}}}, ProviderRefused, None),
        ({"http": {"body": {"error": {"message": "No.", "code": "server_error"}}}}, ProviderRefused, "server_error"),
        ({"http": {"status": 500, "body": TOO_LONG}}, ProviderRefused, "context_length_exceeded"),
        ({"http": {"status": 504, "body": "late"}}, ProviderTimeout, None),
        ({"http": {"body": {"object": "list", "data": []}}}, ProviderGarbage, None),
        ({"http": {"body": "<html>", "headers": {"Content-Type": "text/html"}}}, ProviderGarbage, None),
        ({"http": {"body": "no json", "headers": {"Content-Type": "application/json"}}}, ProviderGarbage, None),
        ({"http": {"body": {}, "gzip": True}}, ProviderGarbage, None),
        ({"fault": "reset"}, ProviderUnreachable, None),
        ({"fault": "cut"}, ProviderUnreachable, None),
    ],
)
async def test_failures_of_embeddings_are_reported_like_those_of_a_chat(
    script: dict[str, Any], error: type[AttemptFailed], code: str | None, provider: OpenAICompatible
) -> None:
    with pytest.raises(error) as caught:
        await embed(provider, "fine", scripted(**script))
    assert code in (None, caught.value.code)


async def test_an_answer_full_of_vectors_is_bounded(
    provider: OpenAICompatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (openai_compatible, http_upstream, http_client):
        monkeypatch.setattr(module, "EVENT_BYTES", 1000)

    with pytest.raises(ProviderGarbage, match="over 1000 bytes"):
        await embed(provider, "one", dimensions=1000)


async def test_a_cancelled_embedding_closes_the_upstreams_socket(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    embedding = asyncio.create_task(embed(provider, scripted(fault="hang")))
    await upstream.request()
    embedding.cancel()
    await asyncio.wait([embedding])

    await upstream.until(lambda: upstream.closed == 1)
