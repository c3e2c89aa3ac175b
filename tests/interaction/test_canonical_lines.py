"""Test the log's lines about requests and jobs: a request names its job, and each end of a job is one line."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.events import EventType
from tests.support.controlled_provider import MODEL, ControlledProvider
from tests.support.core import TIMEOUT_S, LogEvents, captured_logs
from tests.support.system import System, ask, running_system, running_worker

MINE = {"X-Request-Id": "mine"}
ABOUT = {"tenant": "alice", "lane": "default", "kind": "chat", "model": MODEL}


pytestmark = pytest.mark.usefixtures("an_old_server")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


async def test_a_submitted_job_is_one_line_with_its_request_and_the_record_names_that_request(system: System) -> None:
    with captured_logs(as_written=True) as logs:
        answer = await system.client.post("/v1/jobs", ask(), headers=MINE)

    job_id = answer.json()["id"]
    assert logs.named("job.submitted") == [{"event": "job.submitted", "request": "mine", "job": job_id, **ABOUT}]
    assert (await system.job(job_id)).request_id == "mine"


async def test_a_repeated_submit_creates_no_second_line(system: System) -> None:
    repeated = {**MINE, "Idempotency-Key": "k"}
    with captured_logs(as_written=True) as logs:
        first = await system.client.post("/v1/jobs", ask(), headers=repeated)
        second = await system.client.post("/v1/jobs", ask(), headers={**repeated, "X-Request-Id": "again"})

    assert second.json()["id"] == first.json()["id"]
    assert len(logs.named("job.submitted")) == 1
    assert (await system.job(first.json()["id"])).request_id == "mine"


async def test_a_refused_request_submits_nothing(system: System) -> None:
    with captured_logs(as_written=True) as logs:
        answer = await system.client.post("/v1/jobs", ask(lane="none"))
    assert answer.status == 400
    assert logs.named("job.submitted") == []


async def end_of(system: System, logs: LogEvents, job_id: str) -> dict[str, Any]:
    """Wait until the job has been completed; return its one line."""
    async with asyncio.timeout(2 * TIMEOUT_S):
        while await system.queue_keys(job_id):
            pass
    (line,) = (dict(each) for each in logs.named("job.ended"))
    assert line.pop("event") == "job.ended"
    assert (line.pop("request"), line.pop("job")) == ("mine", job_id)
    assert {name: line.pop(name) for name in ABOUT} == ABOUT
    return line


async def submitted(system: System, **fields: Any) -> str:
    answer = await system.client.post("/v1/jobs", ask(**fields), headers=MINE)
    job_id: str = answer.json()["id"]
    return job_id


async def test_a_job_that_completed_is_one_line_with_its_costs_and_times(system: System) -> None:
    provider = ControlledProvider()
    with captured_logs(as_written=True) as logs:
        async with running_worker(system.settings, provider):
            job_id = await submitted(system)
            call = await provider.call()
            call.say("Hello")
            call.end()
            line = await end_of(system, logs, job_id)

    record = await system.job(job_id)
    assert 0 <= line.pop("waited_s") <= line.pop("first_token_s") <= TIMEOUT_S
    assert line.pop("ran_s") == pytest.approx((record.ended_ms - record.started_ms) / 1000, abs=0.1)
    usage = record.outcome["usage"]
    assert line == {
        "provider": record.executions[0].provider,
        "status": "completed",
        "code": None,
        "attempts": 1,
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
    }
    assert logs.about(job_id) == ["job.submitted", "job.ended"]


async def test_a_job_that_failed_is_one_line_with_its_code(system: System) -> None:
    provider = ControlledProvider()
    with captured_logs(as_written=True) as logs:
        async with running_worker(system.settings, provider):
            job_id = await submitted(system)
            (await provider.call()).fail(ProviderRefused("Not that.", code="insufficient_quota"))
            line = await end_of(system, logs, job_id)

    assert (line["status"], line["code"], line["attempts"]) == ("failed", "insufficient_quota", 1)
    assert line["provider"] == (await system.job(job_id)).executions[0].provider
    assert (line["first_token_s"], line["ran_s"] is None) == (None, False)
    assert all(each.get("request") == "mine" for each in logs.named("attempt.failed"))


async def test_a_job_that_was_cancelled_while_it_ran_is_one_line(system: System) -> None:
    provider = ControlledProvider()
    with captured_logs(as_written=True) as logs:
        async with running_worker(system.settings, provider):
            job_id = await submitted(system)
            (await provider.call()).say("Hello")
            await system.until(job_id, EventType.DELTA)
            await system.cancel(job_id)
            line = await end_of(system, logs, job_id)

    assert (line["status"], line["code"], line["output_tokens"]) == ("cancelled", "cancelled", 1)


async def test_a_job_that_the_gateway_cancelled_in_its_lane_is_one_line(system: System) -> None:
    with captured_logs(as_written=True) as logs:
        job_id = await submitted(system)
        await system.cancel(job_id)
        async with running_worker(system.settings, ControlledProvider()):
            line = await end_of(system, logs, job_id)

    assert (line["status"], line["code"], line["attempts"]) == ("cancelled", "cancelled", 0)
    assert (line["provider"], line["ran_s"], line["waited_s"] is None) == (None, None, False)


async def test_a_job_that_the_reaper_ended_is_one_line(system: System) -> None:
    with captured_logs(as_written=True) as logs:
        job_id = await submitted(system, timeout_s=0.1)
        async with asyncio.timeout(TIMEOUT_S):
            while (await system.core.store.time_ms()) < (await system.job(job_id)).deadline_ms:
                pass
        async with running_worker(system.settings, ControlledProvider()):
            line = await end_of(system, logs, job_id)

    assert (line["status"], line["code"], line["attempts"]) == ("expired", "deadline_passed", 0)
