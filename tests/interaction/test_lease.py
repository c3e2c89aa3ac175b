"""Leases: a worker that dies or falls silent loses its jobs to another, and a reader gets each text whole and once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_RETRY
from shared.store.queue import Claim, Queue
from shared.store.wire.answers import Written
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S, captured_logs, frames_of
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker
from worker.execution import pump
from worker.execution.job_run import JobRun
from worker.model.retry import NEAR_DELTAS

pytestmark = pytest.mark.usefixtures("an_old_server")

LEASE_S = 0.6
LONG_S = 60.0
BEATS_PER_LEASE = 4


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
    """Return settings with a short lease."""
    return settings.model_copy(update={"lease_s": LEASE_S, "upstream_url": upstream[1]})


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
async def processes(system: System) -> AsyncIterator[Processes]:
    """Workers that can be killed and frozen."""
    async with Processes(system.settings) as opened:
        yield opened


async def forget_last_word(system: System, job_id: str) -> None:
    """Redis is as it was before the first execution's only delta, which it had acknowledged."""
    client, log = system.core.client, system.core.keys.job(job_id).log
    entries = await client.xrange(log, "-", "1-1")
    await client.delete(log)
    for entry_id, fields in entries:
        await client.xadd(log, fields, entry_id)
    await system.write(job_id, seq=1)


async def test_a_killed_workers_job_is_run_again_and_its_text_is_whole_without_repeats(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    doomed = await processes.worker()
    job_id = await system.submit()
    (await provider.call()).say("Half of ", "it")
    async with system.reading(job_id) as read:
        seen = [await read() for _ in range(4)]
        await processes.worker()
        await doomed.crash()
        again = await provider.call(1)
        again.say("Half of ", "it ", "and the rest.")
        again.end()
        while seen[-1].type is not EventType.COMPLETED:
            seen.append(await read())
    story = await system.story(job_id)

    assert seen == story.events
    assert story.types == ["queued", "started", *["delta"] * 2, "rollback", "started", *["delta"] * 3, "completed"]
    assert story.text == "Half of it and the rest."
    rollback, started = story.events[4:6]
    assert rollback.json() == {"to": "0-1", "reason": "worker_lost"}
    assert started.json()["attempt"] == 2
    assert [call.request for call in provider.calls] == [ask(stream=True, stream_options={"include_usage": True})] * 2
    assert (await system.job(job_id)).attempts == 2
    assert await system.queue_keys(job_id) == []


async def test_a_frozen_worker_that_wakes_up_late_writes_nothing_more(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    zombie = await processes.worker()
    job_id = await system.submit()
    first = await provider.call()
    first.say("Zombie ")
    await system.until(job_id, EventType.DELTA)
    heir = await processes.worker()
    zombie.freeze()
    first.say("never ", "to be ", "seen")
    second = await provider.call(1)
    second.say("The heir ")
    await system.until(job_id, EventType.DELTA, count=2)
    async with system.commands() as command:
        for _ in range(3 * BEATS_PER_LEASE):  # the only worker that is awake renews its leases
            await command(f"GET {ARQ_IN_PROGRESS}{job_id}")
    zombie.thaw()
    await first.until_closed()
    second.say("speaks.")
    second.end()
    story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "rollback", "started", "delta", "delta", "completed"]
    assert story.text == "The heir speaks."
    assert len(provider.calls) == 2
    # It is as good as new.
    await heir.crash()
    job_id = await system.submit()
    (await provider.call(2)).end()
    assert (await system.story(job_id)).types == ["queued", "started", "completed"]


async def test_a_claim_that_merely_expired_is_renewed_and_the_job_continues(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit()
        call = await provider.call()
        async with system.commands() as command:
            await system.core.client.delete(ARQ_IN_PROGRESS + job_id)
            await command(f"SET {ARQ_IN_PROGRESS}{job_id} ")
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert len(provider.calls) == 1


async def test_a_job_that_its_own_worker_takes_again_continues(system: System, provider: ControlledProvider) -> None:
    """Redis was away for longer than the lease, and the next take comes before the next beat."""
    async with running_worker(system.settings.model_copy(update={"lease_s": LONG_S})):
        job_id = await system.submit()
        call = await provider.call()
        call.say("One ")
        await system.until(job_id, EventType.DELTA)
        async with system.commands() as command:
            await system.core.client.delete(ARQ_IN_PROGRESS + job_id)
            await system.due(job_id)
            await command(f"SET {ARQ_IN_PROGRESS}{job_id} ")
        call.say("text")
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "delta", "completed"]
    assert story.text == "One text"
    assert len(provider.calls) == 1
    assert await system.queue_keys(job_id) == []


async def test_a_job_that_outlives_many_leases_is_run_once(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings), running_worker(system.settings):
        job_id = await system.submit()
        call = await provider.call()
        async with system.commands() as command:
            for _ in range(3 * BEATS_PER_LEASE):
                await command(f"SET {ARQ_IN_PROGRESS}{job_id} ")
        call.say("RetryWindow.")
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "completed"]
    assert len(provider.calls) == 1


async def test_a_claim_that_another_worker_holds_ends_the_execution(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit()
        call = await provider.call()
        await system.core.client.set(ARQ_IN_PROGRESS + job_id, "another.1")
        await call.until_closed()

    assert (await system.job(job_id)).status is State.RUNNING


async def test_a_running_job_that_the_queue_has_lost_continues(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit()
        call = await provider.call()
        async with system.commands() as command:
            await system.lose(job_id)
            for _ in range(2):
                await command(f"GET {ARQ_IN_PROGRESS}{job_id}")
        call.say("Nevertheless.")
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "completed"]
    assert await system.queue_keys(job_id) == []


async def test_a_job_whose_workers_died_at_the_same_place_fails(system: System, provider: ControlledProvider) -> None:
    job_id = await system.submit()
    first = await system.core.begin(job_id, "dead.1")
    assert await system.core.append(frames_of(first, 2, "rolled ", "back")) == [Written()]
    second = await system.core.begin(job_id, "dead.2", progress=Progress(crashes=1, died_at=2))
    assert await system.core.append(frames_of(second, 3, "what ", "is ", "left")) == [Written()]
    async with running_worker(system.settings):
        story = await system.story(job_id)

    assert story.types == ["queued", *["started", "delta", "delta", "rollback"], "started", *["delta"] * 3, "failed"]
    assert story.text == "what is left"
    assert story.end["usage"]["completion_tokens"] == 3
    assert story.code == "poison_job"
    assert story.end["error"]["message"] == "The job lost 2 workers in a row without progress."
    assert provider.calls == []
    assert await system.queue_keys(job_id) == []


async def test_a_job_whose_workers_died_at_different_places_continues(
    system: System, provider: ControlledProvider
) -> None:
    job_id = await system.submit()
    await system.core.begin(job_id, "dead.1", progress=Progress(crashes=1, died_at=2 * NEAR_DELTAS))
    async with running_worker(system.settings):
        (await provider.call()).end()
        story = await system.story(job_id)

    assert story.types[-1] == "completed"
    assert (await system.job(job_id)).progress.crashes == 1


async def test_a_job_that_is_taken_again_while_it_is_handed_back_is_held_like_any_other(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_back = Queue.give_back

    async def slow_give_back(queue: Queue, claim: Claim) -> bool:
        given = await give_back(queue, claim)
        await provider.call(1)
        return given

    monkeypatch.setattr(Queue, "give_back", slow_give_back)
    monkeypatch.setattr(pump, "KEEP_BYTES", 0)
    async with running_worker(system.settings):
        job_id = await system.submit()
        first = await provider.call()
        first.say("forgotten")
        await system.until(job_id, EventType.DELTA)
        await forget_last_word(system, job_id)
        first.end()
        second = await provider.call(1)
        async with system.commands() as command:
            for _ in range(3 * BEATS_PER_LEASE):
                await command(f"GET {ARQ_IN_PROGRESS}{job_id}")
        second.say("kept")
        second.end()
        story = await system.story(job_id)

    assert story.text == "kept"
    assert len(provider.calls) == 2


@pytest.mark.parametrize(("kind", "step"), [(JobRun, "run"), (JobRun, "_holds")], ids=["just taken", "record read"])
async def test_a_worker_that_is_frozen_before_its_begin_does_not_take_the_job_from_its_heir(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch, kind: type, step: str
) -> None:
    frozen, thawed = asyncio.Event(), asyncio.Event()
    go_on = getattr(kind, step)

    async def freeze(*args: Any) -> Any:
        frozen.set()
        await thawed.wait()
        return await go_on(*args)

    monkeypatch.setattr(kind, step, freeze)
    async with running_worker(system.settings):
        job_id = await system.submit()
        await asyncio.wait_for(frozen.wait(), TIMEOUT_S)
        await system.core.client.set(ARQ_IN_PROGRESS + job_id, "heir.1", px=int(3.5 * system.settings.lease_s * 1000))
        await system.core.begin(job_id, "heir.1")
        async with system.commands() as command:
            for _ in range(2 * BEATS_PER_LEASE):  # its lease is over long since
                await command(f"GET {ARQ_IN_PROGRESS}{job_id}")
        thawed.set()

    assert await system.core.story(job_id) == ["0-1 queued", "1-1 started"]
    assert (await system.job(job_id)).attempts == 1
    assert await system.core.client.get(ARQ_IN_PROGRESS + job_id) == b"heir.1"
    assert provider.calls == []


async def test_a_job_that_kills_each_worker_that_runs_it_fails_and_the_next_one_lives(
    system: System, provider: ControlledProvider, processes: Processes
) -> None:
    job_id = await system.submit(model="poison")
    for number in range(2):
        victim = await processes.worker()
        (await provider.call(number)).say("x")
        await system.until(job_id, EventType.DELTA, count=number + 1)
        await victim.crash()
    await processes.worker()
    story = await system.story(job_id)
    after = await system.submit(model="harmless")
    (await provider.call_for("harmless")).end()

    assert story.types == ["queued", "started", "delta", "rollback", "started", "delta", "failed"]
    assert story.code == "poison_job"
    assert (await system.story(after)).types == ["queued", "started", "completed"]
    assert [call.model for call in provider.calls] == ["poison", "poison", "harmless"]
    assert await system.queue_keys(job_id) == []


async def test_a_job_that_redis_kept_from_starting_is_taken_again_after_its_lease(
    system: System, provider: ControlledProvider
) -> None:
    job_id = await system.submit()
    await system.core.client.lpush(ARQ_RETRY + job_id, "no number")  # type: ignore[misc]
    with captured_logs() as logs:
        async with running_worker(system.settings):
            await logs.wait_for("dispatcher.not_started")
            await system.core.client.delete(ARQ_RETRY + job_id)
            (await provider.call()).end()
            story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert story.events[1].json()["attempt"] == 1


async def test_last_frames_that_redis_lost_are_sent_again_before_the_end(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit()
        call = await provider.call()
        call.say("kept")
        await system.until(job_id, EventType.DELTA)
        await forget_last_word(system, job_id)
        call.end()
        story = await system.story(job_id)

    assert (story.types, story.text) == (["queued", "started", "delta", "completed"], "kept")
    assert len(provider.calls) == 1


async def test_a_job_whose_last_frames_were_lost_is_run_again_and_costs_no_attempt(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "KEEP_BYTES", 0)
    async with running_worker(system.settings):
        job_id = await system.submit()
        first = await provider.call()
        first.say("forgotten")
        await system.until(job_id, EventType.DELTA)
        await forget_last_word(system, job_id)
        first.end()
        second = await provider.call(1)
        second.say("kept")
        second.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "started", "delta", "completed"]
    assert story.text == "kept"
    assert (await system.job(job_id)).attempts == 1
