"""Run native jobs of kind `embeddings`: their progress, their ends, and the address of their result.

Not here: a result that is read again after a break (test_embeddings_resumed.py).
"""

import base64
from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from shared.model.bounds import EMBEDDED_AT_ONCE
from tests.support.controlled_provider import ControlledProvider
from tests.support.embeddings_api import (
    MODEL,
    bytes_of,
    progress_of,
    proves,
    result_of,
    scripted,
    submit,
    vectors_of,
)
from tests.support.system import System, running_system, running_worker
from worker.upstream.providers.scripted import Scripted, embed


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway and a scripted worker."""
    async with running_system(settings) as running, running_worker(settings, Scripted()):
        yield running


# Jobs.


async def test_a_job_reports_its_progress_in_batches_and_a_digest_of_its_result(system: System) -> None:
    inputs = [f"text {n}" for n in range(2 * EMBEDDED_AT_ONCE + 50)]
    job_id = await submit(system, inputs)

    story = await system.story(job_id)

    assert story.types == ["queued", "started", "progress", "progress", "progress", "completed"]
    assert progress_of(story) == [100, 200, 250]
    assert story.events[2].json() == {
        "done": 100,
        "total": 250,
        "percent": 40,
        "stage": "running",
        "message": "100 of 250 inputs",
    }
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


async def test_a_job_that_fails_in_the_middle_keeps_its_vectors(system: System) -> None:
    inputs = ["fine"] * EMBEDDED_AT_ONCE + [scripted(fault="refuse", code="invalid_request")]
    job_id = await submit(system, inputs)

    story = await system.story(job_id)

    assert (story.types[-1], story.code) == ("failed", "invalid_request")
    assert (story.end["usage"]["prompt_tokens"], story.end["usage"]["source"]) == (100, "partial")
    listed = await result_of(system.client, job_id)
    assert (listed["status"], listed["done"], listed["total"]) == ("failed", 100, 101)
    assert bytes_of(listed) == vectors_of(inputs[:100])
    assert proves(story.end, bytes_of(listed))


async def test_a_cancelled_job_keeps_its_vectors_and_reports_their_cost(settings: Settings) -> None:
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


async def test_the_result_of_a_running_job_has_its_vectors_so_far(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101)
        empty = await result_of(system.client, job_id)
        (await provider.call()).embed()
        await provider.call(1)

        listed = await result_of(system.client, job_id)

    assert (empty["done"], empty["total"], empty["data"]) == (0, None, [])
    assert (listed["status"], listed["done"], len(listed["data"])) == ("running", 100, 100)


async def test_the_next_worker_continues_behind_the_vectors_of_a_drained_one(settings: Settings) -> None:
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


async def test_an_expired_job_keeps_its_vectors(settings: Settings) -> None:
    provider = ControlledProvider()
    async with running_system(settings) as system, running_worker(settings, provider):
        job_id = await submit(system, ["fine"] * 101, timeout_s=0.5)
        (await provider.call()).embed()

        story = await system.story(job_id)

    assert (story.types[-1], story.end["result"]["inputs"]) == ("expired", 100)


async def test_the_usage_is_marked_as_estimated_if_the_provider_does_not_count(settings: Settings) -> None:
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


async def test_another_tenants_result_answers_like_an_unknown_one(system: System) -> None:
    job_id = await submit(system, ["mine"])
    await system.story(job_id)

    answer = await system.client.as_("sk-bob").get(f"/v1/jobs/{job_id}/result")

    assert (answer.status, answer.json()["code"]) == (404, "job_not_found")


async def test_an_encoding_that_there_is_not_is_named(system: System) -> None:
    job_id = await submit(system, ["mine"])

    answer = await system.client.get(f"/v1/jobs/{job_id}/result?encoding_format=hex")

    assert (answer.status, answer.json()["param"]) == (400, "encoding_format")


async def test_a_result_that_redis_lost_in_the_middle_breaks_off(settings: Settings) -> None:
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
