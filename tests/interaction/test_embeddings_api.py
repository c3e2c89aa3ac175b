"""Serve `/v1/embeddings` to OpenAI's callers, through gateway and worker.

Not here: native jobs of this kind (test_embedding_jobs.py).
"""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import Answer
from tests.support.controlled_provider import ControlledProvider
from tests.support.embeddings_api import (
    EMBEDDINGS,
    MODEL,
    body,
    bytes_of,
    scripted,
    vectors_of,
)
from tests.support.system import System, running_system, running_worker
from worker.upstream.providers.scripted import Scripted, embed


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a scripted worker."""
    async with running_system(settings) as running, running_worker(settings, Scripted()):
        yield running


async def test_inputs_return_as_vectors_in_their_order_with_their_usage(system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body(["one", "two words", "three"]))

    assert answer.status == 200, answer.body
    listed = answer.json()
    assert {name: listed[name] for name in ("object", "model", "usage")} == {
        "object": "list",
        "model": MODEL,
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert [(each["object"], each["index"]) for each in listed["data"]] == [("embedding", i) for i in range(3)]
    assert bytes_of(listed) == vectors_of(["one", "two words", "three"])


async def test_vectors_come_in_base64_if_the_caller_asks_for_it(system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body("Hello", encoding_format="base64"))

    (item,) = answer.json()["data"]
    assert base64.b64decode(item["embedding"]) == vectors_of(["Hello"])


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]])],
)
async def test_every_shape_of_input_is_taken(given: Any, inputs: list[Any], system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body(given))

    assert bytes_of(answer.json()) == vectors_of(inputs)


async def test_the_call_is_a_job_that_can_be_looked_at(system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body(["a", "b"], user="somebody", dimensions=4))

    shown = (await system.client.get(f"/v1/jobs/{answer.headers['x-tailrace-job']}")).json()
    progress = {"percent": 100, "stage": "completed", "message": "2 of 2 inputs", "done": 2, "total": 2}
    assert (shown["kind"], shown["status"], shown["progress"]) == ("embeddings", "completed", progress)
    assert shown["usage"]["prompt_tokens"] == 2 and shown["usage"]["source"] == "provider"
    assert shown["result"]["dimensions"] == 4
    assert shown["links"]["result"] == f"/v1/jobs/{shown['id']}/result"


async def test_the_provider_gets_the_callers_body_with_a_list_of_inputs(settings: Settings) -> None:
    provider = ControlledProvider()
    asked = body("Hello", user="me", extra=1, dimensions=8)
    async with (
        running_system(settings) as system,
        running_worker(settings, provider),
        system.client.calling(EMBEDDINGS, asked) as call,
    ):
        upstream = await provider.call()
        upstream.embed()
        await call.read_head()

    assert upstream.request == {"model": MODEL, "input": ["Hello"], "user": "me", "extra": 1, "dimensions": 8}


async def test_a_repeated_key_is_the_same_job_in_whatever_encoding(system: System) -> None:
    headers = {"Idempotency-Key": "again"}
    first = await system.client.post(EMBEDDINGS, body(), headers=headers)
    second = await system.client.post(EMBEDDINGS, body(), headers=headers)
    other = await system.client.post(EMBEDDINGS, body("Other"), headers=headers)

    assert first.headers["x-tailrace-job"] == second.headers["x-tailrace-job"]
    assert first.body == second.body
    assert other.status == 422


async def test_the_lane_is_named_in_a_header(system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body(), headers={"X-Tailrace-Lane": "no-such"})

    assert (answer.status, answer.json()["error"]["param"]) == (400, "X-Tailrace-Lane")


def error_of(answer: Answer) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return answer.status, error["code"], error["param"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"model": ""}, "model"),
    ],
)
async def test_a_bad_request_is_a_400_in_openais_envelope_that_names_the_field(
    fields: dict[str, Any], param: str, system: System
) -> None:
    answer = await system.client.post(EMBEDDINGS, {**body(), **fields})

    assert error_of(answer) == (400, "invalid_request", param)


async def test_a_providers_refusal_has_its_status(system: System) -> None:
    answer = await system.client.post(EMBEDDINGS, body(scripted(fault="refuse", code="context_length_exceeded")))

    assert error_of(answer) == (400, "context_length_exceeded", None)


async def test_dimensions_that_the_model_does_not_have_are_refused_by_name(settings: Settings) -> None:
    provider = ControlledProvider()
    async with (
        running_system(settings) as system,
        running_worker(settings, provider),
        system.client.calling(EMBEDDINGS, body("Hello", dimensions=3)) as call,
    ):
        upstream = await provider.call()
        upstream.send(embed({"input": ["Hello"], "dimensions": 8}))
        await call.read_head()
        answer = await call.whole()

    assert error_of(answer) == (400, "invalid_request", "dimensions")


async def test_a_disconnect_ends_the_job_and_the_providers_call(settings: Settings) -> None:
    provider = ControlledProvider()
    settings = settings.model_copy(update={"disconnect_grace_s": 0.0})
    async with running_system(settings) as system, running_worker(settings, provider):
        async with system.client.calling(EMBEDDINGS, body()):
            upstream = await provider.call()
        await upstream.until_closed()
        (job,) = (await system.client.get("/v1/jobs?kind=embeddings")).json()["data"]

        assert (await system.story(job["id"])).code == "abandoned"
