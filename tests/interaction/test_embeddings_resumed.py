"""Kill a worker in the middle of a large job of embeddings: the vectors it stored are not computed again."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise

import pytest

from shared.config.settings import Settings
from shared.model.bounds import EMBEDDED_AT_ONCE
from shared.model.events import EventType
from tests.support.processes import Processes
from tests.support.system import running_system
from tests.support.upstream import Upstream, running_upstream
from worker.upstream.providers.scripted import embed
from worker.upstream.wire.vectors import read_vectors

INPUTS = [f"text {n}" for n in range(1000)]
MODEL = "scripted"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, upstream: Upstream) -> Settings:
    return settings.model_copy(update={"upstream_url": upstream.base_url, "lease_s": 1.0})


def embedded(upstream: Upstream) -> list[list[str]]:
    """Return the inputs of each request, in order."""
    return [each.body["input"] for each in upstream.requests if each.path.endswith("/embeddings")]


def answered(upstream: Upstream, count: int) -> bool:
    """Return whether so many requests to embed have their answer."""
    return sum(each.ended is not None for each in upstream.requests if each.path.endswith("/embeddings")) >= count


def batch(number: int) -> list[str]:
    return INPUTS[EMBEDDED_AT_ONCE * number : EMBEDDED_AT_ONCE * (number + 1)]


@pytest.mark.parametrize("killed_at", [0, 1, 4, 9])
async def test_a_worker_that_is_killed_costs_the_batch_that_it_was_at_and_no_other(
    settings: Settings, upstream: Upstream, processes: Processes, killed_at: int
) -> None:
    upstream.held.add(killed_at)  # the batch that is under way when the worker dies
    async with running_system(settings) as system:
        first = await processes.worker()
        job_id = await system.submit({"kind": "embeddings", "model": MODEL, "input": INPUTS})
        await upstream.until(lambda: len(embedded(upstream)) > killed_at)
        second, _ = await asyncio.gather(processes.worker(), first.crash())
        story = await system.story(job_id)
        result = await system.client.get(f"/v1/jobs/{job_id}/result?encoding_format=base64")

    assert embedded(upstream) == [*map(batch, range(killed_at + 1)), *map(batch, range(killed_at, 10))]
    done = [event.json()["done"] for event in story.events if event.type is EventType.PROGRESS]
    assert done == [100 * n for n in range(1, 11)]
    vectors = b"".join(base64.b64decode(item["embedding"]) for item in result.json()["data"])
    assert vectors == read_vectors(embed({"input": INPUTS}), len(INPUTS)).data
    assert story.end["result"]["sha256"] == hashlib.sha256(vectors).hexdigest()
    assert story.end["usage"]["prompt_tokens"] == 2000
    assert second.said.count("attempt.crashed") == 0


async def test_inputs_reported_as_done_are_not_embedded_again_after_a_kill(
    settings: Settings, upstream: Upstream, processes: Processes
) -> None:
    async with running_system(settings) as system:
        worker = await processes.worker()
        job_id = await system.submit({"kind": "embeddings", "model": MODEL, "input": INPUTS})
        for killed_after in (2, 5):
            # Just after an answer was sent: it may have been stored or not.
            await upstream.until(partial(answered, upstream, killed_after))
            worker, _ = await asyncio.gather(processes.worker(), worker.crash())
        story = await system.story(job_id)
        result = await system.client.get(f"/v1/jobs/{job_id}/result")

    done, starts = [0], []
    for event in story.events:
        if event.type is EventType.PROGRESS:
            done.append(event.json()["done"])
        elif event.type is EventType.STARTED:
            starts.append(done[-1] // EMBEDDED_AT_ONCE)
    assert done == [100 * n for n in range(11)]
    # A batch that was requested twice is the first of an execution, behind all batches that were reported as done.
    asked = [INPUTS.index(each[0]) // EMBEDDED_AT_ONCE for each in embedded(upstream)]
    repeats = [later for former, later in pairwise(asked) if later != former + 1]
    assert set(repeats) <= set(starts)
    assert sorted(set(asked)) == list(range(10))
    assert len(asked) <= 12
    assert len(json.loads(result.body)["data"]) == 1000
