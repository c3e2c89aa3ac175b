"""Run the steps after a job's end, regardless of which process ended it or died: one dead letter for each failed job.

Workers are in this process, or real ones that SIGKILL ends between two steps.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.events import EventType
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.store.dead_letters import DeadLetters
from tests.support.completion import completion_steps_of
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S, Core, captured_logs, make_spec
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker

REFUSED = ProviderRefused("Not that.", code="insufficient_quota")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


async def letters(core: Core) -> list[str]:
    return [each.job_id for each in await core.dead_letters.listed(None, 100, only_open=True)]


async def test_a_job_that_failed_is_listed_counted_and_logged_once_without_its_prompt(system: System) -> None:
    provider = ControlledProvider()
    with captured_logs() as logs:
        async with running_worker(system.settings, provider):
            job_id = await system.submit(ask("a secret"))
            (await provider.call()).fail(REFUSED)
            await system.story(job_id)
        (event,) = logs.named("job.dead_letter")

    assert await letters(system.core) == [job_id]
    assert await system.queue_keys(job_id) == []
    about = {"job": job_id, "code": REFUSED.code, "tenant": "alice", "lane": "default", "attempts": 1}
    assert event == {"event": "job.dead_letter", **about}


async def test_only_failed_jobs_become_dead_letters_and_a_completed_one_is_not_checked(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    add = DeadLetters.add

    async def watched(self: DeadLetters, job_id: str) -> object:
        asked.append(job_id)
        return await add(self, job_id)

    monkeypatch.setattr(DeadLetters, "add", watched)
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        completed = await system.submit()
        (await provider.call()).end()
        await system.story(completed)
        cancelled = await system.submit()
        (await provider.call(1)).say("Hel")
        await system.until(cancelled, EventType.DELTA)
        await system.cancel(cancelled)
        expired = await system.submit(timeout_s=0.2)
        for job_id in (cancelled, expired):
            await system.story(job_id)

    assert completed not in asked
    assert await letters(system.core) == []


async def test_a_job_that_completed_costs_one_call_after_its_end(system: System) -> None:
    provider, after = ControlledProvider(), list[str]()
    await system.forgo_reconciling()
    async with running_worker(system.settings, provider), system.core.client.monitor() as monitor:
        job_id = await system.submit()
        (await provider.call()).end()
        async with asyncio.timeout(2 * TIMEOUT_S):
            while not after or "tailrace_done_" not in after[-1]:
                command = await monitor.next_command()
                text = command["command"]
                # Leases are renewed at times of their own.
                if command["client_type"] == "lua" or job_id not in text or "_renew_" in text or "_beat_" in text:
                    continue
                if after or "tailrace_finish_" in text:
                    after.append(text)

    assert [text.split()[1].rsplit("_", 1)[0] for text in after] == ["tailrace_finish", "tailrace_done"]


@pytest.mark.parametrize("code", ["invalid_request", "context_length_exceeded", "content_policy_violation"])
async def test_a_job_whose_request_was_to_blame_is_neither_a_dead_letter_nor_counted_against_its_provider(
    system: System, code: str
) -> None:
    provider = ControlledProvider()
    with captured_logs() as logs:
        async with running_worker(system.settings, provider):
            job_id = await system.submit()
            (await provider.call()).fail(ProviderRefused("Not so.", code=code))
            story = await system.story(job_id)
            failed = await system.submit()
            (await provider.call(1)).fail(REFUSED)
            await system.story(failed)
        scraped = (await system.client.as_("sk-root").get("/metrics")).body.decode()

    assert (story.code, story.end["error"]["type"]) == (code, "request_error")
    assert await letters(system.core) == [failed]
    assert [each["job"] for each in logs.named("job.dead_letter")] == [failed]
    counted = [line for line in scraped.splitlines() if line.startswith("tailrace_provider_failures_total{")]
    assert len(counted) == 1 and REFUSED.code in counted[0]


async def test_a_foreground_call_that_failed_is_a_dead_letter_too(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        async with system.client.calling("/v1/chat/completions", ask()) as response:
            (await provider.call()).fail(REFUSED)
            await response.read_head()
            await response.whole()
        job_id = response.headers["x-tailrace-job"]

    assert await letters(system.core) == [job_id]


@pytest.mark.parametrize("step", ["shared.store.dead_letters:DeadLetters.add", "shared.store.queue:Queue.done"])
async def test_a_worker_that_is_killed_in_the_completion_steps_leaves_nothing_undone(system: System, step: str) -> None:
    with captured_logs() as logs:
        async with controlled_upstream() as (provider, url), Processes(system.settings) as processes:
            doomed = await processes.doomed_worker(step, upstream_url=url)
            job_id = await system.submit()
            (await provider.call()).fail(REFUSED)
            assert (await system.story(job_id)).types[-1] == "failed"
            await doomed.died()
            assert await letters(system.core) == ([] if step.endswith("add") else [job_id])
            assert "message" in await system.queue_keys(job_id)
            told_again = ControlledProvider()
            async with system.commands() as seen, running_worker(system.settings, told_again):
                await seen("tailrace_done_")

    assert await letters(system.core) == [job_id]
    assert await system.queue_keys(job_id) == []
    assert told_again.calls == []
    assert len(logs.named("job.dead_letter")) == step.endswith("add")


async def test_an_ended_job_that_only_the_reaper_finds_becomes_a_dead_letter(system: System) -> None:
    core = system.core
    job_id = await system.submit()
    execution = await core.take_over(job_id)
    await core.finish(execution, State.FAILED)
    await system.lose(job_id)
    await system.check_next(job_id)

    async with system.commands() as seen, running_worker(system.settings, ControlledProvider()):
        await seen("tailrace_done_")

    assert await letters(core) == [job_id]


async def test_a_job_that_is_made_again_while_the_lost_one_is_seen_off_stays_in_the_queue(system: System) -> None:
    core = system.core
    spec = make_spec()
    await core.queue_admission.admit(spec, max_depth=10, retention_s=60)
    assert (await core.store.create(spec, 1, again=True)).new

    await completion_steps_of(core).run(spec.id, spec.lane)

    assert await system.queue_keys(spec.id) == ["lane", "active", "message"]


async def test_the_counter_has_the_code(system: System) -> None:
    core, metrics = system.core, Metrics()
    job_id = await system.submit()
    await core.finish(await core.take_over(job_id), State.FAILED)
    completion_steps = completion_steps_of(core, metrics=metrics)

    for _ in range(2):
        await completion_steps.run(job_id, "default")

    (sample,) = metrics.samples()["tailrace_dead_letters_total"]
    assert (sample.labels, sample.numbers) == (("",), (1,))
