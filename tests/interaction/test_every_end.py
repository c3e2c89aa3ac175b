"""Run a registered completion step exactly once for each way in which a job can end, whichever process ended it.

The step is registered here, in the test. Workers are in this process, or real ones that SIGKILL ends. Each way is tried
with the steps of one server, and with those of two.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from shared.model.ended_job import EndedJob
from shared.model.errors import ProviderRefused
from shared.model.events import EventType
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.store.completions import Claimed
from shared.store.wire.answers import CancelAnswer, Written
from tests.support.completion import RecordedStep, completion_steps_of, completions_of
from tests.support.completion_worker import PROGRAM, CountedStep, counted
from tests.support.controlled_provider import MODEL, ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S, captured_logs, frames_of
from tests.support.processes import Processes
from tests.support.short_settings import with_steps_apart
from tests.support.system import System, running_system, running_worker
from worker.dispatch import reaper

pytestmark = pytest.mark.usefixtures("an_old_server")

NEVER_S = 3_600.0
LONG_S, SHORT_LEASE_S = 60.0, 2.0
REFUSED = ProviderRefused("Not that.", code="insufficient_quota")


@pytest.fixture(params=[False, True], ids=["one server", "steps apart"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Return this test's settings, for one server or as for two."""
    return with_steps_apart(settings) if request.param else settings


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys; its workers have one slot, and nothing times out while a test waits."""
    long = dict.fromkeys(("lease_s", "first_token_timeout_s", "gap_timeout_s"), LONG_S)
    async with running_system(settings.model_copy(update={"worker_slots": 1, **long})) as opened:
        yield opened


async def completed(system: System, *job_ids: str) -> None:
    """Wait until the queue has no entry of these jobs."""
    async with asyncio.timeout(2 * TIMEOUT_S):
        for job_id in job_ids:
            while await system.queue_keys(job_id):
                pass


async def check_once(system: System, step: RecordedStep, job_id: str, status: State, code: str = "") -> None:
    """Check that the step ran once for this job, and that it got the job's record."""
    await completed(system, job_id)
    jobs = [job for job in step.jobs if job.id == job_id]
    record = await system.job(job_id)
    about = [(job.tenant, job.lane, job.kind, job.model, job.status, job.attempts, job.error_code) for job in jobs]
    assert about == [("alice", "default", "chat", record.model, status, record.attempts, code)]
    assert [job.usage for job in jobs] == [record.outcome["usage"]]


# One worker, which lives.


async def test_a_job_that_completed(system: System) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        job_id = await system.submit()
        call = await provider.call()
        call.say("Hello")
        call.end(usage={"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4})
        await check_once(system, step, job_id, State.COMPLETED)

    assert (step.jobs[0].usage or {})["total_tokens"] == 4


async def test_a_job_that_failed(system: System) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        job_id = await system.submit()
        (await provider.call()).fail(REFUSED)
        await check_once(system, step, job_id, State.FAILED, REFUSED.code)

    assert [each.job_id for each in await system.core.dead_letters.listed(None, 10, only_open=True)] == [job_id]


async def test_a_job_that_was_cancelled_while_it_ran(system: System) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        job_id = await system.submit()
        (await provider.call()).say("Hel")
        await system.until(job_id, EventType.DELTA)
        await system.cancel(job_id)
        await check_once(system, step, job_id, State.CANCELLED, "cancelled")


async def test_a_job_that_expired_while_it_ran(system: System) -> None:
    step = RecordedStep()
    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        job_id = await system.submit(timeout_s=0.3)
        await check_once(system, step, job_id, State.EXPIRED, "deadline_passed")


async def test_a_job_that_expired_while_it_waited(system: System) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        await system.submit(model="running")
        await provider.call_for("running")
        job_id = await system.submit(model="waiting", timeout_s=0.3)
        await check_once(system, step, job_id, State.EXPIRED, "deadline_passed")


async def test_a_job_that_the_gateway_cancelled_before_a_worker_started(system: System) -> None:
    step = RecordedStep()
    job_id = await system.submit()
    assert (await system.cancel(job_id))["status"] == "cancelled"
    assert await system.queue_keys(job_id) == ["active", "message"]

    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        await check_once(system, step, job_id, State.CANCELLED, "cancelled")


async def test_a_job_that_the_gateway_cancelled_while_all_slots_were_busy(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        running = await system.submit(model="running")
        await provider.call_for("running")
        job_id = await system.submit(model="waiting")
        # From here on only the gateway's message makes the worker run the steps.
        monkeypatch.setattr(reaper, "_SWEEP_S", NEVER_S)
        await asyncio.wait_for(last_sweep(system, running), TIMEOUT_S)
        await system.cancel(job_id)
        await check_once(system, step, job_id, State.CANCELLED, "cancelled")
        assert not (await system.job(running)).ended
        (await provider.call_for("running")).end()
        await check_once(system, step, running, State.COMPLETED)


async def last_sweep(system: System, job_id: str) -> None:
    """Wait until the worker receives control messages, and its reaper has checked this job and begins its next wait."""
    client, keys = system.core.client, system.core.keys
    while not (await client.pubsub_numsub(keys.control))[0][1]:
        pass
    await system.check_next(job_id)
    while not await client.zscore(keys.active, job_id):
        pass


async def test_a_gateway_that_died_after_it_cancelled_a_job(system: System) -> None:
    step = RecordedStep()
    job_id = await system.submit()
    assert await system.core.cancel(job_id) is CancelAnswer.CANCELLED
    assert await system.queue_keys(job_id) == ["lane", "active", "message"]

    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        await check_once(system, step, job_id, State.CANCELLED, "cancelled")


async def test_a_job_that_its_owner_deleted_after_the_gateway_cancelled_it(system: System) -> None:
    step = RecordedStep()
    body = {"model": MODEL, "input": "Hello?", "background": True}
    answer = await system.client.post("/v1/responses", body)
    job_id, url = answer.headers["x-tailrace-job"], f"/v1/responses/{answer.json()['id']}"
    await system.cancel(job_id)
    assert (await system.client.request("DELETE", url)).status == 200
    assert (await system.client.get(url)).status == 404

    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        await check_once(system, step, job_id, State.CANCELLED, "cancelled")


async def test_many_jobs_that_the_gateway_cancelled_beside_three_workers(system: System) -> None:
    step = RecordedStep()
    # A scan of the records that began before a job's completion restores its entry, until the reaper's next check.
    await system.forgo_reconciling()
    job_ids = [await system.submit() for _ in range(12)]
    async with (
        running_worker(system.settings, ControlledProvider(), steps=[step]),
        running_worker(system.settings, ControlledProvider(), steps=[step]),
        running_worker(system.settings, ControlledProvider(), steps=[step]),
    ):
        await asyncio.gather(*map(system.cancel, job_ids))
        await completed(system, *job_ids)

    assert sorted(job.id for job in step.jobs) == job_ids


# Steps that fail, and other processes' claims.


async def test_a_step_that_failed_runs_again_and_holds_back_no_other_one(system: System) -> None:
    failing, other, provider = (
        RecordedStep("failing", failures=[RuntimeError("a defect")]),
        RecordedStep("other"),
        ControlledProvider(),
    )
    with captured_logs() as logs:
        async with running_worker(system.settings, provider, steps=[failing, other]):
            job_id = await system.submit()
            (await provider.call()).end()
            await failing.ran()
            await logs.wait_for("completion.step_failed")
            while "lane" in await system.queue_keys(job_id):
                pass
            assert await system.queue_keys(job_id) == ["active", "message"]
            await system.check_next(job_id)
            await completed(system, job_id)

    assert ([job.id for job in failing.jobs], [job.id for job in other.jobs]) == ([job_id] * 2, [job_id])
    (line,) = logs.named("completion.step_failed")
    assert (line["step"], line["job"]) == ("failing", job_id)


async def test_a_step_that_takes_too_long_is_stopped_and_runs_again(system: System) -> None:
    class Slow(RecordedStep):
        async def run(self, job: EndedJob) -> None:
            await super().run(job)
            if len(self.jobs) == 1:
                await asyncio.Event().wait()

    slow, provider = Slow(), ControlledProvider()
    with captured_logs() as logs:
        async with running_worker(system.settings.model_copy(update={"lease_s": 0.5}), provider, steps=[slow]):
            job_id = await system.submit()
            (await provider.call()).end()
            await logs.wait_for("completion.too_slow")
            await system.check_next(job_id)
            await completed(system, job_id)

    assert [job.id for job in slow.jobs] == [job_id] * 2


async def test_a_job_whose_steps_run_in_another_process_is_left_to_it_until_its_claim_ends(system: System) -> None:
    core, step = system.core, RecordedStep()
    job_id = await system.submit()
    await system.cancel(job_id)
    assert isinstance(await completions_of(core, 0.5).claim(job_id), Claimed)
    steps = completion_steps_of(core, step)

    await steps.run(job_id, "default")

    assert (step.jobs, await system.queue_keys(job_id)) == ([], ["active", "message"])
    async with asyncio.timeout(TIMEOUT_S):
        while not step.jobs:
            await steps.run(job_id, "default")
    assert await system.queue_keys(job_id) == []


# Lost workers.


async def test_a_job_that_lost_too_many_workers(system: System) -> None:
    step = RecordedStep()
    job_id = await system.submit()
    await system.core.begin(job_id, "dead.1")
    second = await system.core.begin(job_id, "dead.2", progress=Progress(crashes=1, died_at=1))
    assert await system.core.append(frames_of(second, 3, "x")) == [Written()]
    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        await check_once(system, step, job_id, State.FAILED, "poison_job")


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reaper check each job once: a second check would run steps that the first one left out."""
    monkeypatch.setattr(reaper, "_HOLD_S", NEVER_S)


@pytest.mark.usefixtures("one_check")
async def test_a_job_that_the_reaper_ended_for_a_silent_worker(system: System) -> None:
    step = RecordedStep()
    job_id = await system.submit()
    execution = await system.core.begin(job_id, "silent.1")
    assert await system.core.append(frames_of(execution, 2, "some ", "words")) == [Written()]
    await system.core.client.zadd(system.lane, {job_id: 1e15}, xx=True)
    await system.write(job_id, deadline=1)
    await system.check_next(job_id)
    async with running_worker(system.settings, ControlledProvider(), steps=[step]):
        await check_once(system, step, job_id, State.EXPIRED, "deadline_passed")


@pytest.mark.usefixtures("one_check")
async def test_a_job_that_the_reaper_cancelled_because_it_was_abandoned(system: System) -> None:
    step, provider = RecordedStep(), ControlledProvider()
    async with running_worker(system.settings, provider, steps=[step]):
        await system.submit(model="running")
        await provider.call_for("running")
        job_id = await system.submit(model="waiting")
        await system.write(job_id, abandon_at=1)
        await system.core.queue.schedule_check([job_id], 0)
        await check_once(system, step, job_id, State.CANCELLED, "abandoned")


@pytest.mark.parametrize("status", [State.COMPLETED, State.FAILED])
async def test_a_job_whose_worker_was_killed_between_its_end_and_the_first_step(system: System, status: State) -> None:
    settings = system.settings.model_copy(update={"lease_s": SHORT_LEASE_S})
    async with controlled_upstream() as (provider, url), Processes(settings) as processes:
        doomed = await processes.doomed_worker(
            "worker.execution.completion:CompletionSteps.run", program=PROGRAM, upstream_url=url
        )
        job_id = await system.submit()
        call = await provider.call()
        if status is State.COMPLETED:
            call.end()
        else:
            call.stop()
        assert (await system.story(job_id)).types[-1] == status
        await doomed.died()
        assert await counted(system.core.client, system.core.keys) == []
        async with running_worker(settings, ControlledProvider(), steps=[CountedStep(settings)]):
            await completed(system, job_id)

    assert await counted(system.core.client, system.core.keys) == [job_id]


@pytest.mark.parametrize("ways", ["completed", "cancelled while queued"])
async def test_a_job_whose_worker_was_killed_between_two_steps(system: System, ways: str) -> None:
    settings = system.settings.model_copy(update={"lease_s": SHORT_LEASE_S})
    async with controlled_upstream() as (provider, url), Processes(settings) as processes:
        doomed = await processes.doomed_worker("shared.store.queue:Queue.done", program=PROGRAM, upstream_url=url)
        if ways == "completed":
            job_id = await system.submit()
            (await provider.call()).end()
        else:
            doomed.freeze()
            job_id = await system.submit()
            await system.cancel(job_id)
            doomed.thaw()
        await doomed.died()
        assert await counted(system.core.client, system.core.keys) == [job_id]
        assert await system.queue_keys(job_id) != []
        async with running_worker(settings, ControlledProvider(), steps=[CountedStep(settings)]):
            await completed(system, job_id)

    assert await counted(system.core.client, system.core.keys) == [job_id]
