"""Use OpenAI's own Python clients with embeddings: their default fields, and every shape of input."""

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from tests.clients.sdk import Sdk
from tests.clients.system import KEY, System
from worker.upstream.providers.scripted import embed
from worker.upstream.wire.vectors import read_vectors

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=[OpenAI, AsyncOpenAI])
async def sdk(request: pytest.FixtureRequest, system: System) -> AsyncIterator[Sdk]:
    """Open each of the two clients with its defaults."""
    opened = Sdk(request.param(base_url=system.base_url, api_key=KEY, max_retries=0))
    yield opened
    await opened.close()


def vectors_of(inputs: list[Any], **fields: Any) -> list[list[float]]:
    """Return the upstream's vectors of these inputs, as 32-bit floats."""
    read = read_vectors(embed({"input": inputs, **fields}), len(inputs))
    numbers = struct.unpack(f"<{len(read.data) // 4}f", read.data)
    return [list(numbers[i : i + read.dimensions]) for i in range(0, len(numbers), read.dimensions)]


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("Hello", ["Hello"]),
        (["naïve 東京", "🌊\n"], ["naïve 東京", "🌊\n"]),
        ([15339, 1917], [[15339, 1917]]),
        ([[15339], [1917, 0]], [[15339], [1917, 0]]),
    ],
)
async def test_the_clients_default_gives_the_upstreams_vectors(
    given: Any, inputs: list[Any], sdk: Sdk, system: System, model: str
) -> None:
    answer = await sdk.embed(model=model, input=given)

    assert [item.embedding for item in answer.data] == vectors_of(inputs)
    assert [item.index for item in answer.data] == list(range(len(inputs)))
    assert (answer.object, answer.model) == ("list", model)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    (asked,) = await system.upstream.requests(model)
    assert asked["input"] == inputs


async def test_vectors_come_as_numbers_if_the_caller_asks_for_floats(sdk: Sdk, model: str) -> None:
    answer = await sdk.raw_embed(model=model, input="Hello", encoding_format="float")

    assert answer.http_response.json()["data"][0]["embedding"] == vectors_of(["Hello"])[0]
    assert answer.parse().data[0].embedding == vectors_of(["Hello"])[0]


async def test_base64_that_is_asked_for_is_not_decoded(sdk: Sdk, model: str) -> None:
    answer = await sdk.embed(model=model, input="Hello", encoding_format="base64", dimensions=16)

    reported: Any = answer.data[0].embedding
    assert list(struct.unpack("<16f", base64.b64decode(reported))) == vectors_of(["Hello"], dimensions=16)[0]


async def test_two_thousand_inputs_return_in_their_order(sdk: Sdk, model: str) -> None:
    inputs = [f"text {n}" for n in range(2048)]

    answer = await sdk.embed(model=model, input=inputs, dimensions=2)

    assert [item.embedding for item in answer.data] == vectors_of(inputs, dimensions=2)


async def test_a_call_is_a_job_that_can_be_looked_at(sdk: Sdk, system: System, model: str) -> None:
    answer = await sdk.raw_embed(model=model, input="Hello")

    job = (await system.client.get(f"/v1/jobs/{answer.headers['x-tailrace-job']}")).json()
    assert (job["kind"], job["status"], job["model"]) == ("embeddings", "completed", model)


async def test_an_empty_input_is_a_bad_request_that_names_it(sdk: Sdk, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.embed(model=model, input=["a", ""])

    assert (caught.value.param, caught.value.code) == ("input[1]", "invalid_request")
    assert isinstance(caught.value.body, dict) and caught.value.body["type"] == "invalid_request_error"


async def test_a_model_that_the_upstream_does_not_know_is_not_found(sdk: Sdk) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.embed(model="unknown-model", input="Hello")

    assert caught.value.code == "model_not_found"
