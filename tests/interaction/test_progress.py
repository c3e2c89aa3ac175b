"""Test the progress of jobs through gateway and worker. Not here: the count (tests/unit/shared/model)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from tests.support.controlled_provider import ControlledProvider
from tests.support.system import System, ask, running_system, running_worker


@pytest.fixture
def provider() -> ControlledProvider:
    return ControlledProvider()


@pytest.fixture
async def system(settings: Settings, provider: ControlledProvider) -> AsyncIterator[System]:
    """Start a gateway, and a worker of a provider that the test controls."""
    async with running_system(settings) as running, running_worker(settings, provider):
        yield running


async def progress(system: System, job_id: str) -> dict[str, Any]:
    """Return the progress of a job, which its task shows too."""
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()
    if job["status"] != "running":  # of a job that runs, the two reads may differ
        assert (await system.client.get(f"/tasks/{job_id}")).json()["progress"] == job["progress"]
    shown: dict[str, Any] = job["progress"]
    return shown


async def test_a_chat_advances_by_its_tokens_to_its_limit(system: System, provider: ControlledProvider) -> None:
    job_id = await system.submit({**ask(), "max_tokens": 4})
    call = await provider.call()
    await system.until(job_id, EventType.STARTED)
    begun = await progress(system, job_id)
    call.say("Hello")
    await system.until(job_id, EventType.DELTA)
    later = await progress(system, job_id)
    call.end()
    await system.story(job_id)

    assert begun == {"percent": 0, "stage": "running", "message": "0 tokens"}
    assert later == {"percent": 25, "stage": "running", "message": "1 token"}
    assert (await progress(system, job_id))["percent"] == 100


async def test_a_chat_without_a_limit_is_expected_to_be_as_long_as_the_last_ones(
    system: System, provider: ControlledProvider
) -> None:
    seen = []
    for number in range(2):
        job_id = await system.submit(ask())
        call = await provider.call(number)
        call.say("Hello")
        await system.until(job_id, EventType.DELTA)
        seen.append((await progress(system, job_id))["percent"])
        call.say(" world")
        call.end()
        await system.story(job_id)

    assert seen == [None, 50]
