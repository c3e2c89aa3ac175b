"""Many jobs at once, through real processes: all of them end, and every text is exact."""

import asyncio
from urllib.parse import urlsplit

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.core import open_core
from tests.support.processes import Processes
from tests.support.short_settings import redis_url_of
from tests.support.system import Story, read_story
from tests.support.upstream import ask as scripted
from tests.support.upstream import expected_text

CLIENTS = 50
JOBS_EACH = 20
SLOTS = 40


@pytest.mark.timeout(120)
@pytest.mark.slow(8, "a thousand jobs")
async def test_a_thousand_jobs_of_fifty_clients_all_end_and_every_text_is_exact(settings: Settings) -> None:
    slots = settings.model_copy(update={"worker_slots": SLOTS, "timeout_s": 100.0})
    async with Processes(slots) as processes:
        gateway, _ = await asyncio.gather(processes.gateway(), processes.worker())
        port = urlsplit(gateway.url).port
        assert port is not None
        client = Client(port)
        # No client waits for another: all jobs are there before the first client reads.
        submitted = await asyncio.gather(*(submit_all(client, number) for number in range(CLIENTS)))
        stories = await asyncio.gather(*(read_all(client, job_ids) for job_ids in submitted))
        async with open_core(redis_url_of(settings), settings.key_prefix) as core:
            assert await core.depth("default") == 0
            assert await core.client.zcard(core.keys.active) == 0

    job_ids = [job_id for each in submitted for job_id in each]
    assert len(set(job_ids)) == CLIENTS * JOBS_EACH
    for number, each in enumerate(stories):
        for job, story in enumerate(each):
            assert story.types[-1] == "completed"
            assert story.types.count("started") == 1
            assert story.text == expected_text(body_of(number, job))


def body_of(client: int, job: int) -> dict[str, object]:
    """Each job has a text of its own."""
    return scripted(tokens=5 + job, seed=client * JOBS_EACH + job)


async def submit_all(client: Client, number: int) -> list[str]:
    """One client's jobs, one after the other."""
    job_ids = []
    for job in range(JOBS_EACH):
        answer = await client.post("/v1/jobs", body_of(number, job))
        assert answer.status == 202, answer.body
        job_ids.append(answer.json()["id"])
    return job_ids


async def read_all(client: Client, job_ids: list[str]) -> list[Story]:
    """One client's stories."""
    return [await read_story(client, job_id) for job_id in job_ids]
