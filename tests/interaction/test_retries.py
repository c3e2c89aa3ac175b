"""Retry an attempt that failed without a reader's notice, and end a job whose attempts all fail.

Workers and gateways are in this process; the test scripts the provider. Not here: the decisions
(tests/unit/worker/model/test_retry.py), answers that break in the middle (test_mid_answer_failures.py).
"""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.errors import (
    ProviderRefused,
    ProviderUnreachable,
)
from shared.model.jobs import Progress
from shared.model.routes import Continuation
from tests.support.controlled_provider import ControlledProvider
from tests.support.scripted_attempts import BROKEN, USAGE, answer, fail_first, with_three_attempts
from tests.support.system import System, ask, running_worker
from worker.model import retry

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_three_attempts(settings)


async def test_a_failure_before_the_first_token_is_not_seen(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        await fail_first(provider)
        again = await answer(provider, 1, "Hello.", usage=USAGE)
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "started", "delta", "completed"]
    assert again.request == (await provider.call()).request
    assert story.end["usage"] == {**USAGE, "source": "provider"}


async def test_each_attempt_is_reported_with_its_cause(system: System, provider: ControlledProvider) -> None:
    limited = ProviderRefused("Slow down.", code="rate_limit_exceeded", retry_after_s=0.01)
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        await fail_first(provider, error=limited)
        await answer(provider, 1, "Hello.")
        await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    first, second = job["attempts"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["error"] == {
        "type": "provider_error",
        "code": "rate_limit_exceeded",
        "message": "Slow down.",
        "retryable": True,
        "retry_after_s": 0.01,
    }
    assert (second["error"], second["ended_at"]) == (None, job["ended_at"])
    assert first["started_at"] <= first["ended_at"] <= second["started_at"]
    assert {each["provider"] for each in job["attempts"]} == {"mock"}


async def test_a_job_whose_attempts_all_fail_ends_with_the_last_cause(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        for number in range(3):
            (await provider.call(number)).fail(ProviderUnreachable(f"Number {number}."))
        story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.types == ["queued", "started", "started", "started", "failed"]
    assert story.end["error"]["message"] == "Number 2."
    assert [each["error"]["message"] for each in job["attempts"]] == ["Number 0.", "Number 1.", "Number 2."]
    assert await system.queue_keys(job_id) == []


async def test_a_job_that_waits_for_its_next_attempt_holds_no_slot(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.0)
    later = ProviderRefused("Later.", code="rate_limit_exceeded", retry_after_s=20.0)
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        waiting = await system.submit(model="waits")
        (await provider.call_for("waits")).fail(later)
        other = await system.submit(model="other")
        await answer(provider, 1, "Meanwhile.")
        assert (await system.story(other)).text == "Meanwhile."
        job = (await system.client.get(f"/v1/jobs/{waiting}")).json()
        cancelled = await system.cancel(waiting)
        story = await system.story(waiting)

    assert (job["status"], len(job["attempts"])) == ("running", 1)
    assert cancelled["status"] == "cancelled"
    assert story.types == ["queued", "started", "cancelled"]


async def test_rolled_back_tokens_count_against_the_budget_of_the_next_attempt(
    system: System, provider: ControlledProvider
) -> None:
    thrifty = system.settings.model_copy(update={"max_regenerated_tokens": 3})
    async with running_worker(thrifty, provider):
        job_id = await system.submit(ask(on_stream_failure="rollback"))
        await fail_first(provider, "a", "b")
        second = await provider.call(1)
        second.say("c", "d")
        second.fail(BROKEN)
        story = await system.story(job_id)

    assert (story.text, story.code) == ("cd", "provider_unreachable")
    assert (await system.job(job_id)).progress == Progress(failures=1, rounds=1, discarded_tokens=2, deltas_offset=-2)


async def test_a_call_that_is_not_streamed_is_started_over_unseen(system: System, provider: ControlledProvider) -> None:
    async with running_worker(
        system.settings.model_copy(update={"upstream_continuation": Continuation.NONE}), provider
    ):
        calling = asyncio.create_task(system.client.post("/v1/chat/completions", ask()))
        await fail_first(provider, "Wrong.")
        await answer(provider, 1, "Right.")
        found = await calling

    assert found.json()["choices"][0]["message"]["content"] == "Right."


@pytest.mark.parametrize("value", ["", "Continue", "restart", 1, None, ["fail"]])
async def test_an_unknown_policy_is_refused_with_those_that_there_are(system: System, value: object) -> None:
    answer = await system.client.post("/v1/jobs", ask(on_stream_failure=value))

    if value is None:
        assert answer.status == 202
        return
    assert (answer.status, answer.json()["param"]) == (400, "on_stream_failure")
    assert answer.json()["detail"] == "on_stream_failure must be one of: continue, rollback, fail."


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/chat"])
async def test_a_dialects_header_names_the_policy(system: System, provider: ControlledProvider, path: str) -> None:
    bodies = {
        "/v1/chat/completions": ask(),
        "/v1/responses": {"model": "mock", "input": "Hello?"},
        "/api/chat": {
            "model": "mock",
            "id": "c1",
            "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}],
        },
    }
    wrong = await system.client.post(path, bodies[path], headers={"X-Tailrace-On-Stream-Failure": "retry"})
    async with (
        running_worker(system.settings, provider),
        system.client.calling(path, bodies[path], headers={"X-Tailrace-On-Stream-Failure": "fail"}) as response,
    ):
        call = await provider.call()
        call.say("half")
        call.fail(BROKEN)
        await response.read_head()
        job_id = response.headers["x-tailrace-job"]
        story = await system.story(job_id)

    assert wrong.status == 400
    assert b"X-Tailrace-On-Stream-Failure must be one of: continue, rollback, fail." in wrong.body
    assert (story.text, story.code, len(provider.calls)) == ("half", "provider_unreachable", 1)
