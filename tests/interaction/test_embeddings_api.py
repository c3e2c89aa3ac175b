"""Embeddings, through gateway and worker: `/v1/embeddings` for OpenAI's callers, jobs of kind `embeddings` natively."""

import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.bounds import EMBEDDED_AT_ONCE
from shared.model.events import EventType
from tests.support.client import Answer, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.system import Story, System, running_system, running_worker
from worker.upstream.providers.scripted import Scripted, embed

EMBEDDINGS = "/v1/embeddings"
MODEL = "scripted"


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a scripted worker."""
    async with running_system(settings) as running, running_worker(settings, Scripted()):
        yield running


def body(input_: Any = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": input_, **fields}


def scripted(**script: Any) -> str:
    """Return an input that makes the provider do this."""
    return json.dumps({"script": script})


def vectors_of(inputs: list[Any], **fields: Any) -> bytes:
    """Return the scripted provider's vectors of these inputs, as the bytes of a result."""
    items = embed({"input": inputs, "encoding_format": "base64", **fields})["data"]
    return b"".join(base64.b64decode(item["embedding"]) for item in items)


def bytes_of(listed: dict[str, Any]) -> bytes:
    """Return the vectors of a list in floats, as the bytes of a result."""
    return b"".join(struct.pack(f"<{len(each['embedding'])}f", *each["embedding"]) for each in listed["data"])


async def result_of(client: Client, job_id: str, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/v1/jobs/{job_id}/result{query}")
    assert answer.status == 200, answer.body
    listed: dict[str, Any] = answer.json()
    return listed


async def submit(system: System, inputs: Any, **fields: Any) -> str:
    return await system.submit({"kind": "embeddings", "model": MODEL, "input": inputs, **fields})


def progress_of(story: Story) -> list[int]:
    return [event.json()["done"] for event in story.events if event.type is EventType.PROGRESS]


def proves(end: dict[str, Any], vectors: bytes) -> bool:
    """Return whether the terminal event's `result` is about these bytes."""
    reported: str = end["result"]["sha256"]
    return reported == hashlib.sha256(vectors).hexdigest()


# The list that OpenAI's callers get.


async def test_inputs_return_as_vectors_in_their_order_with_what_they_cost(system: System) -> None:
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


async def test_base64_is_given_to_whoever_asks_for_it(system: System) -> None:
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
    assert (shown["kind"], shown["status"], shown["progress"]) == ("embeddings", "completed", {"done": 2, "total": 2})
    assert shown["usage"]["prompt_tokens"] == 2 and shown["usage"]["source"] == "provider"
    assert shown["result"]["dimensions"] == 4
    assert shown["links"]["result"] == f"/v1/jobs/{shown['id']}/result"


async def test_what_the_provider_is_given_is_the_callers_body_with_a_list_of_inputs(settings: Settings) -> None:
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


async def test_a_caller_who_leaves_ends_the_job_and_the_providers_call(settings: Settings) -> None:
    provider = ControlledProvider()
    settings = settings.model_copy(update={"disconnect_grace_s": 0.0})
    async with running_system(settings) as system, running_worker(settings, provider):
        async with system.client.calling(EMBEDDINGS, body()):
            upstream = await provider.call()
        await upstream.until_closed()
        (job,) = (await system.client.get("/v1/jobs?kind=embeddings")).json()["data"]

        assert (await system.story(job["id"])).code == "abandoned"


# Jobs.


async def test_a_job_tells_its_progress_in_batches_and_its_end_proves_the_result(system: System) -> None:
    inputs = [f"text {n}" for n in range(2 * EMBEDDED_AT_ONCE + 50)]
    job_id = await submit(system, inputs)

    story = await system.story(job_id)

    assert story.types == ["queued", "started", "progress", "progress", "progress", "completed"]
    assert progress_of(story) == [100, 200, 250]
    assert story.events[2].json() == {"done": 100, "total": 250, "message": "100 of 250 inputs"}
    assert story.end["usage"] == {
        "prompt_tokens": 500,
        "completion_tokens": 0,
        "total_tokens": 500,
        "source": "provider",
    }
    assert story.end["result"].items() >= {"inputs": 250, "dimensions": 8}.items()
    listed = await result_of(system.client, job_id)
    assert {name: value for name, value in listed.items() if name != "data"} == {
        "object": "list",
        "model": MODEL,
        "usage": {"prompt_tokens": 500, "total_tokens": 500},
        "job": job_id,
        "status": "completed",
        "done": 250,
        "total": 250,
    }
    assert [each["index"] for each in listed["data"]] == list(range(250))
    assert bytes_of(listed) == vectors_of(inputs)
    assert proves(story.end, bytes_of(listed))


async def test_a_result_in_base64_is_the_same(system: System) -> None:
    job_id = await submit(system, ["a", "b"])
    await system.story(job_id)

    listed = await result_of(system.client, job_id, "?encoding_format=base64")

    assert b"".join(base64.b64decode(each["embedding"]) for each in listed["data"]) == vectors_of(["a", "b"])


async def test_a_large_result_comes_page_by_page_and_whole(settings: Settings) -> None:
    inputs = [f"text {n}" for n in range(150)]
    async with running_system(settings) as system, running_worker(settings, Scripted()):
        job_id = await submit(system, inputs, dimensions=1000)
        await system.story(job_id)
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/result?encoding_format=base64") as response:
            answer = await response.whole()

    assert len(response.sends) > 2
    vectors = b"".join(base64.b64decode(each["embedding"]) for each in answer.json()["data"])
    assert vectors == vectors_of(inputs, dimensions=1000)


async def test_a_job_that_fails_in_the_middle_keeps_what_it_has(system: System) -> None:
    inputs = ["fine"] * EMBEDDED_AT_ONCE + [scripted(fault="refuse", code="invalid_request")]
    job_id = await submit(system, inputs)

    story = await system.story(job_id)

    assert (story.types[-1], story.code) == ("failed", "invalid_request")
    assert (story.end["usage"]["prompt_tokens"], story.end["usage"]["source"]) == (100, "partial")
    listed = await result_of(system.client, job_id)
    assert (listed["status"], listed["done"], listed["total"]) == ("failed", 100, 101)
    assert bytes_of(listed) == vectors_of(inputs[:100])
    assert proves(story.end, bytes_of(listed))


async def test_a_cancelled_job_keeps_what_it_has_and_tells_what_it_cost(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101)
        (await provider.call()).embed()
        second = await provider.call(1)
        await system.cancel(job_id)
        await second.until_closed()

        story = await system.story(job_id)
        listed = await result_of(system.client, job_id)

    assert (story.types[-1], story.end["usage"]["prompt_tokens"]) == ("cancelled", 100)
    assert (listed["status"], listed["done"]) == ("cancelled", 100)
    assert proves(story.end, bytes_of(listed))


async def test_the_result_of_a_running_job_is_what_it_has_so_far(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101)
        empty = await result_of(system.client, job_id)
        (await provider.call()).embed()
        await provider.call(1)

        listed = await result_of(system.client, job_id)

    assert (empty["done"], empty["total"], empty["data"]) == (0, None, [])
    assert (listed["status"], listed["done"], len(listed["data"])) == ("running", 100, 100)


async def test_a_drained_worker_hands_back_and_the_next_one_continues_behind_what_is_kept(settings: Settings) -> None:
    provider, other = ControlledProvider(), ControlledProvider()
    settings = settings.model_copy(update={"drain_s": 0.0})
    inputs = [f"text {n}" for n in range(150)]
    async with running_system(settings) as system:
        async with running_worker(settings, provider) as worker:
            job_id = await submit(system, inputs)
            (await provider.call()).embed()
            await provider.call(1)
            worker.drain()
            await worker.stopped()
        async with running_worker(settings, other):
            call = await other.call()
            call.embed()
            story = await system.story(job_id)
            job = await system.job(job_id)

        assert call.request["input"] == inputs[100:]
        assert len(other.calls) == 1
        assert story.types == ["queued", "started", "progress", "started", "progress", "completed"]
        assert story.events[3].json()["resumed_from"] == str(story.events[2].id)
        assert job.attempts == 1
        listed = await result_of(system.client, job_id)
        assert bytes_of(listed) == vectors_of(inputs)
        assert proves(story.end, bytes_of(listed))


async def test_a_result_that_would_be_too_large_fails_after_one_batch(settings: Settings) -> None:
    settings = settings.model_copy(update={"max_result_bytes": 150 * 8 * 4 - 1})
    async with running_system(settings) as system, running_worker(settings, Scripted()):
        job_id = await submit(system, ["fine"] * 150)

        story = await system.story(job_id)

    assert story.code == "output_too_large"
    assert progress_of(story) == []


async def test_a_provider_whose_vectors_change_their_length_is_not_believed(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101)
        (await provider.call()).embed()
        (await provider.call(1)).send(embed({"input": ["fine"], "dimensions": 9}))

        story = await system.story(job_id)

    assert story.code == "provider_garbage"


async def test_a_provider_that_does_not_answer_is_too_slow(settings: Settings) -> None:
    settings = settings.model_copy(update={"first_token_timeout_s": 0.05})
    async with running_system(settings) as system, running_worker(settings, Scripted()):
        job_id = await submit(system, [scripted(fault="stall")])

        assert (await system.story(job_id)).code == "provider_timeout"


async def test_a_job_whose_time_is_over_expires_and_keeps_what_it_has(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101, timeout_s=0.5)
        (await provider.call()).embed()

        story = await system.story(job_id)

    assert (story.types[-1], story.end["result"]["inputs"]) == ("expired", 100)


async def test_where_the_provider_does_not_count_the_cost_is_estimated_and_says_so(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, [[7, 8, 9]])
        call = await provider.call()
        call.send({**embed(call.request), "usage": None})

        story = await system.story(job_id)

    assert (story.end["usage"]["prompt_tokens"], story.end["usage"]["source"]) == (3, "estimated")


# The result's address.


async def test_a_chat_has_no_result(system: System) -> None:
    job_id = await system.submit()

    answer = await system.client.get(f"/v1/jobs/{job_id}/result")

    assert (answer.status, answer.json()["code"]) == (404, "not_found")


async def test_anothers_result_looks_like_none(system: System) -> None:
    job_id = await submit(system, ["mine"])
    await system.story(job_id)

    answer = await system.client.as_("sk-bob").get(f"/v1/jobs/{job_id}/result")

    assert (answer.status, answer.json()["code"]) == (404, "job_not_found")


async def test_an_encoding_that_there_is_not_is_named(system: System) -> None:
    job_id = await submit(system, ["mine"])

    answer = await system.client.get(f"/v1/jobs/{job_id}/result?encoding_format=hex")

    assert (answer.status, answer.json()["param"]) == (400, "encoding_format")


async def test_a_result_that_redis_forgot_in_the_middle_breaks_off(settings: Settings) -> None:
    async with running_system(settings) as system, running_worker(settings, Scripted()):
        job_id = await submit(system, ["fine"] * 150, dimensions=1000)
        await system.story(job_id)
        key = system.core.keys.job(job_id).result
        half = await system.core.client.getrange(key, 0, 300_000)
        await system.core.client.set(key, half)

        async with system.client.stream("GET", f"/v1/jobs/{job_id}/result") as response:
            await response.rest()
        assert response.complete is False
        await system.core.client.delete(key)
        assert (await system.client.get(f"/v1/jobs/{job_id}/result")).status == 503
