"""Test the log's lines about requests and jobs: a request names its job, and each end of a job is one line."""

from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from tests.support.core import captured_logs
from tests.support.system import System, ask, running_system
from tests.support.told import MODEL

MINE = {"X-Request-Id": "mine"}
ABOUT = {"tenant": "alice", "lane": "default", "kind": "chat", "model": MODEL}


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


async def test_a_submitted_job_is_one_line_with_its_request_and_the_record_names_that_request(system: System) -> None:
    with captured_logs(with_ids=True) as logs:
        answer = await system.client.post("/v1/jobs", ask(), headers=MINE)

    job_id = answer.json()["id"]
    assert logs.named("job.submitted") == [{"event": "job.submitted", "request": "mine", "job": job_id, **ABOUT}]
    assert (await system.job(job_id)).request_id == "mine"


async def test_a_repeated_submit_creates_no_second_line(system: System) -> None:
    repeated = {**MINE, "Idempotency-Key": "k"}
    with captured_logs(with_ids=True) as logs:
        first = await system.client.post("/v1/jobs", ask(), headers=repeated)
        second = await system.client.post("/v1/jobs", ask(), headers={**repeated, "X-Request-Id": "again"})

    assert second.json()["id"] == first.json()["id"]
    assert len(logs.named("job.submitted")) == 1
    assert (await system.job(first.json()["id"])).request_id == "mine"


async def test_a_refused_request_submits_nothing(system: System) -> None:
    with captured_logs(with_ids=True) as logs:
        answer = await system.client.post("/v1/jobs", ask(lane="none"))
    assert answer.status == 400
    assert logs.named("job.submitted") == []
