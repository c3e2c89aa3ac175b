"""Checkpoints of functions: whatever ends an attempt, the next one continues after the last stored one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.bounds import CHECKPOINT_BYTES
from shared.model.events import EventType
from shared.model.lifecycle import State
from shared.store.checkpoints import Checkpoints
from tests.support.processes import Processes
from tests.support.system import System, running_system, running_worker

KINDS = ("tests.support.checkpoint_kinds",)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return settings with the kinds of the module."""
    return settings.model_copy(update={"kinds": KINDS, "drain_s": 0.1})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway that knows the kinds."""
    async with running_system(settings) as running:
        yield running


def reading(**options: int) -> dict[str, Any]:
    """Return the body of a job that reads pages."""
    return {"kind": "pages", "input": options}


async def result_of(system: System, job_id: str) -> Any:
    """Wait for the end of a job; return its result."""
    await system.story(job_id)
    return (await system.client.get(f"/v1/jobs/{job_id}")).json()["result"]


async def checkpoint_of(system: System, job_id: str) -> bytes | None:
    return await Checkpoints(system.core.client, system.core.keys).load(job_id)


@pytest.mark.parametrize("ends", ["fails_after", "later_after"])
async def test_an_attempt_after_a_failure_continues_after_the_last_checkpoint(system: System, ends: str) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(reading(count=5, **{ends: 2}))
        result = await result_of(system, job_id)

    assert result == {"resumed_from": {"next": 3}, "read": [3, 4]}
    assert await checkpoint_of(system, job_id) is None


async def test_a_worker_continues_where_a_killed_one_stored_its_last_checkpoint(
    system: System, settings: Settings
) -> None:
    async with Processes(settings) as processes:
        first = await processes.worker(lease_s=1)
        job_id = await system.submit(reading(count=6, hangs_after=3))
        await system.until(job_id, EventType.PROGRESS)
        await first.crash()
        assert await checkpoint_of(system, job_id) == b'{"next":4}'
        await processes.worker(lease_s=1)
        result = await result_of(system, job_id)

    assert result == {"resumed_from": {"next": 4}, "read": [4, 5]}


async def test_a_worker_that_stops_hands_its_checkpoint_on(system: System) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(reading(count=3, hangs_after=1))
        await system.until(job_id, EventType.PROGRESS)
    async with running_worker(system.settings):
        result = await result_of(system, job_id)

    assert result == {"resumed_from": {"next": 2}, "read": [2]}


async def test_a_job_that_ends_otherwise_keeps_its_checkpoint_until_it_expires(system: System) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit(reading(count=3, hangs_after=1))
        await system.until(job_id, EventType.PROGRESS)
        await system.cancel(job_id)
        await result_of(system, job_id)
    left_ms = await system.core.client.pttl(system.core.keys.job(job_id).result)

    assert (await system.job(job_id)).status is State.CANCELLED
    assert await checkpoint_of(system, job_id) == b'{"next":2}'
    assert left_ms > 0


async def test_a_checkpoint_that_is_unfit_is_refused_and_not_stored(system: System) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit({"kind": "unfit-checkpoint", "input": {"characters": CHECKPOINT_BYTES - 1}})
        no_json, none, large = await result_of(system, job_id)

    assert no_json == "A checkpoint must be a value of JSON."
    assert none == "A checkpoint must not be None: resume_from is None if there is no checkpoint."
    assert large == "A checkpoint may have 256 KiB as JSON; this one has 262145 bytes."
    assert await checkpoint_of(system, job_id) is None
