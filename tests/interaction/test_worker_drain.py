"""Drain a worker: running jobs may end, the rest is handed back at no cost, and the process always ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.model.lifecycle import State
from shared.store.executions import Executions
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.wire.answers import TakeAnswer, Taken
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S, frozen
from tests.support.processes import Processes, at_peace, gone
from tests.support.short_settings import with_steps_apart
from tests.support.system import STOP_S, System, running_system, running_worker
from worker.execution.runs import Runs

LONG_S = 60.0
AT_ONCE_S = 3.0


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[ControlledProvider, str]]:
    """Start the upstream of all workers."""
    async with controlled_upstream() as opened:
        yield opened


@pytest.fixture
def provider(upstream: tuple[ControlledProvider, str]) -> ControlledProvider:
    """Return the scripted provider."""
    return upstream[0]


@pytest.fixture
def settings(settings: Settings, upstream: tuple[ControlledProvider, str]) -> Settings:
    """Return settings with a lease that no test waits for, and a long drain."""
    changes = {"lease_s": LONG_S, "drain_s": LONG_S, "upstream_url": upstream[1]}
    return settings.model_copy(update=changes)


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
async def processes(system: System) -> AsyncIterator[Processes]:
    """Workers that get real signals."""
    async with Processes(system.settings) as opened:
        yield opened


async def test_a_draining_worker_ends_what_runs_and_takes_nothing_more(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings) as worker:
        running = await system.submit(model="running")
        call = await provider.call_for("running")
        worker.drain()
        waiting = await system.submit(model="waiting")
        call.say("The end.")
        call.end()
        await worker.stopped()
        story = await system.story(running)

    assert (story.types[-1], story.text) == ("completed", "The end.")
    assert [each.model for each in provider.calls] == ["running"]
    assert (await system.job(waiting)).status is State.QUEUED
    assert await system.queue_keys(running) == []
    assert await system.queue_keys(waiting) == ["lane", "active", "message"]


async def test_a_job_that_outlasts_the_drain_is_handed_back_and_costs_no_attempt(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings.model_copy(update={"drain_s": 0.0})) as worker:
        job_id = await system.submit()
        first = await provider.call()
        first.say("Lost ")
        await system.until(job_id, EventType.DELTA)
        worker.drain()
        await worker.stopped()
        assert first.closed
    job = await system.job(job_id)
    assert (job.status, job.attempts) == (State.RUNNING, 0)
    assert await system.queue_keys(job_id) == ["lane", "active", "message"]

    async with running_worker(system.settings):
        second = await provider.call(1)
        second.say("Found.")
        second.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "rollback", "started", "delta", "completed"]
    assert [event.json()["attempt"] for event in story.events if event.type is EventType.STARTED] == [1, 1]
    assert story.text == "Found."
    assert (await system.job(job_id)).attempts == 1


async def test_a_worker_that_waits_takes_what_another_hands_back_at_once(
    system: System, provider: ControlledProvider
) -> None:
    """Long before the lease would end."""
    job_ids = []
    async with running_worker(system.settings.model_copy(update={"drain_s": 0.0})) as worker:
        for number in range(5):
            job_ids.append(await system.submit(model=f"m{number}"))
            await provider.call_for(f"m{number}")
        async with running_worker(system.settings):
            worker.drain()
            for number in range(5, 10):
                (await provider.call(number)).end()
            await worker.stopped()
            stories = [await system.story(job_id) for job_id in job_ids]

    assert [story.types for story in stories] == [["queued", "started", "started", "completed"]] * 5


async def test_a_job_that_is_handed_back_again_and_again_spends_no_attempt(
    system: System, provider: ControlledProvider
) -> None:
    job_id = await system.submit()
    hasty = system.settings.model_copy(update={"drain_s": 0.0})
    for number in range(4):
        async with running_worker(hasty):
            await provider.call(number)
    async with running_worker(hasty):
        (await provider.call(4)).end()
        story = await system.story(job_id)

    assert story.types[-1] == "completed"
    assert (await system.job(job_id)).attempts == 1


@pytest.mark.parametrize(
    ("store", "step", "apart"),
    [(JobRecords, "load_with_request", True), (Executions, "begin", True), (Executions, "begin", False)],
)
async def test_a_job_that_was_taken_and_had_not_begun_is_handed_back_at_once(
    system: System, provider: ControlledProvider, store: type, step: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await system.submit()
    settings = with_steps_apart(system.settings) if apart else system.settings
    taken, drained = asyncio.Event(), asyncio.Event()
    real_step, real_drain = getattr(store, step), Runs.drain

    async def slow_step(*args: Any, **options: Any) -> Any:
        taken.set()
        await drained.wait()
        return await real_step(*args, **options)

    def drain(runs: Runs) -> None:
        real_drain(runs)
        drained.set()

    monkeypatch.setattr(store, step, slow_step)
    monkeypatch.setattr(Runs, "drain", drain)
    async with running_worker(settings.model_copy(update={"drain_s": 0.0})) as worker:
        await asyncio.wait_for(taken.wait(), TIMEOUT_S)
        worker.drain()
        await worker.stopped()
    assert provider.calls == []
    assert (await system.job(job_id)).attempts == 0
    assert await system.queue_keys(job_id) == ["lane", "active", "message"]

    async with running_worker(system.settings):
        (await provider.call()).end()
        assert (await system.story(job_id)).types[-1] == "completed"


@pytest.mark.parametrize("drain_s", [0.0, LONG_S])
async def test_a_job_whose_claim_is_under_way_when_the_worker_stops_is_not_lost(
    system: System, provider: ControlledProvider, drain_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await system.submit()
    claimed, answered = asyncio.Event(), asyncio.Event()
    real_take = Queue.take

    async def slow_take(*args: Any, **options: Any) -> TakeAnswer:
        found = await real_take(*args, **options)
        if isinstance(found, Taken) and not claimed.is_set():
            claimed.set()
            await answered.wait()
        return found

    monkeypatch.setattr(Queue, "take", slow_take)
    async with running_worker(system.settings.model_copy(update={"drain_s": drain_s})) as worker:
        await asyncio.wait_for(claimed.wait(), TIMEOUT_S)
        worker.drain()
        for _ in range(10):
            await asyncio.sleep(0)
        answered.set()
        if drain_s:
            (await provider.call()).end()
        await worker.stopped()
    if drain_s:
        assert (await system.story(job_id)).types[-1] == "completed"
    else:
        assert (await system.job(job_id)).attempts == 0
        assert await system.queue_keys(job_id) == ["lane", "active", "message"]


async def test_a_second_order_hands_back_at_once(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings) as worker:
        job_id = await system.submit()
        await provider.call()
        worker.drain()
        worker.hurry()
        await worker.stopped()

    assert (await system.job(job_id)).attempts == 0


async def test_a_second_order_does_not_wait_for_a_claim_that_gets_no_answer(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def unanswered(*_: Any, **__: Any) -> None:
        asked.set()
        await never.wait()

    monkeypatch.setattr(Queue, "take", unanswered)
    async with running_worker(system.settings) as worker:
        await asyncio.wait_for(asked.wait(), TIMEOUT_S)
        worker.drain()
        worker.hurry()
        async with asyncio.timeout(AT_ONCE_S):
            await worker.stopped()


async def test_a_cancel_is_heard_while_draining(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings) as worker:
        job_id = await system.submit()
        await provider.call()
        worker.drain()
        assert (await system.cancel(job_id))["status"] == "cancelled"
        await worker.stopped()

    assert (await system.story(job_id)).types == ["queued", "started", "cancelled"]


async def test_an_idle_worker_is_gone_at_once(system: System) -> None:
    async with running_worker(system.settings) as worker:
        worker.drain()
        await worker.stopped()


@pytest.mark.parametrize("turns", range(0, 40, 4))
async def test_a_worker_that_is_stopped_at_whatever_moment_stops(system: System, turns: int) -> None:
    """Each of its loops is cancelled once, and must not lose that."""
    async with running_worker(system.settings) as worker:
        for _ in range(turns):
            await asyncio.sleep(0)
        worker.drain()
        await worker.stopped()


async def test_a_command_that_is_cancelled_at_whatever_moment_stays_cancelled(system: System) -> None:
    client = system.core.client

    async def ping_for_ever() -> None:
        while True:
            await client.ping()

    for turns in range(50):
        task = asyncio.create_task(ping_for_ever())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=TIMEOUT_S)
        assert task.cancelled(), turns


# Real signals.


async def test_sigterm_lets_a_job_end_and_the_exit_status_is_0(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    worker = await processes.worker()
    job_id = await system.submit()
    call = await provider.call()
    os.kill(worker.pid, signal.SIGTERM)
    call.say("The end.")
    call.end()

    assert (await system.story(job_id)).text == "The end."
    await gone([worker.pid])
    assert await worker.died() == 0


async def test_a_worker_that_hands_back_what_it_streams_has_nothing_to_complain_of(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    worker = await processes.worker(drain_s=0.1, log_level="info")
    job_ids = [await system.submit(model=f"m{number}") for number in range(3)]
    for number, job_id in enumerate(job_ids):
        (await provider.call_for(f"m{number}")).say("Half of ")
        await system.until(job_id, EventType.DELTA)

    assert await worker.terminated() == 0
    assert {"worker.draining", "attempt.stopped", "worker.stopped"} <= {line["event"] for line in at_peace(worker)}
    assert [(await system.job(job_id)).attempts for job_id in job_ids] == [0, 0, 0]


async def test_a_second_signal_ends_it_at_once_and_the_exit_status_is_0(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    worker = await processes.worker()
    job_id = await system.submit()
    await provider.call()
    # Two signals that the kernel can't take for one.
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    await gone([worker.pid])

    assert await worker.died() == 0
    assert (await system.job(job_id)).attempts == 0


@pytest.mark.parametrize("jobs", [0, 1], ids=["idle", "busy"])
async def test_a_second_signal_ends_it_at_once_though_its_redis_is_away(
    system: System, provider: ControlledProvider, processes: Processes, tmp_path: Path, jobs: int
) -> None:
    valkey = await processes.valkey(tmp_path / "own-valkey")
    settings = system.settings.model_copy(update={"redis_url": valkey.url})
    worker = await processes.worker(redis_url=valkey.url)
    async with running_system(settings) as own:
        for _ in range(jobs):
            await own.submit()
            await provider.call()
        with frozen(valkey):
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)
            await gone([worker.pid], timeout_s=AT_ONCE_S)
            assert await worker.died() == 0
            at_peace(worker)


async def test_a_worker_whose_redis_is_away_ends_all_the_same(
    system: System, provider: ControlledProvider, processes: Processes, tmp_path: Path
) -> None:
    valkey = await processes.valkey(tmp_path / "own-valkey")
    settings = system.settings.model_copy(update={"redis_url": valkey.url})
    worker = await processes.worker(redis_url=valkey.url, drain_s=0.0)
    async with running_system(settings) as own:
        job_id = await own.submit()
        await provider.call()
        with frozen(valkey):
            os.kill(worker.pid, signal.SIGTERM)
            await gone([worker.pid], timeout_s=STOP_S)
            assert await worker.died() == 0
        # Nothing could be handed back; the lease would see to it.
        assert (await own.job(job_id)).status is State.RUNNING
        assert await own.queue_keys(job_id) == ["lane", "active", "message", "claim"]
