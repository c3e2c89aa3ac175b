"""Reap: end abandoned jobs, find the jobs that the queue lost, and forget the entries that it held for nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import BrokenJob, TailraceError
from shared.model.events import EventType
from shared.model.jobs import Job, created_ms
from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import State
from shared.store.jobs import EMPTY_SHA256, JobRecords
from shared.store.keys import ARQ_JOB
from shared.store.queue import JOB_CHECK_S
from shared.store.wire.answers import Written
from shared.store.wire.arq_messages import ARQ_FUNCTION, serialize
from tests.support.completion import completion_steps_of
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import Core, captured_logs, frames_of, fresh_job_id, open_core
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker
from tests.support.valkey import running_valkey
from worker.dispatch.reaper import Reaper

pytestmark = pytest.mark.usefixtures("an_old_server")

LONG_S = 60.0
SOON_S = 0.3


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys; no test waits for the leases of its workers."""
    async with running_system(settings.model_copy(update={"lease_s": LONG_S, "worker_slots": 1})) as opened:
        await opened.forgo_reconciling()
        yield opened


async def out_of_reach(system: System, job_id: str) -> None:
    """Let no worker take the job."""
    await system.core.client.zadd(system.lane, {job_id: 1e15}, xx=True)


async def left_behind(system: System, job_id: str, *words: str) -> None:
    """Let the job run in a worker that died, or is as silent: it showed these words."""
    execution = await system.core.begin(job_id, "silent.1")
    assert await system.core.append(frames_of(execution, 2, *words)) == [Written()]
    await out_of_reach(system, job_id)


async def over(system: System, job_id: str) -> None:
    """Let the job's time have been over for long."""
    await system.write(job_id, deadline=1)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        raise NotImplementedError("Redis tells the time of day.")


class Reaping:
    """A reaper that records the jobs it would end, and may find that it can't; over `odd` it fails."""

    def __init__(
        self, core: Core, *, lease_s: float = 10.0, wait_s: float = 0.0, ends: bool = True, odd: str | None = None
    ) -> None:
        self._ends, self._odd = ends, odd
        self.ended: list[tuple[str, str]] = []
        self.served: list[str] = []
        self.time = Time()
        lanes = (DEFAULT_LANE,)
        completion_steps = completion_steps_of(core)
        parts = (core.store, core.queue, completion_steps, self.time, self._end, self.served.append)
        reaper = Reaper(*parts, lanes=lanes, lease_s=lease_s, wait_s=wait_s)
        self.run, self.sweep = reaper.run, reaper.sweep

    async def _end(self, job_id: str, error: TailraceError) -> bool:
        if job_id == self._odd:
            raise RuntimeError("There is something about this job.")
        self.ended.append((job_id, error.code))
        return self._ends


# Deadlines.


async def test_a_job_that_waits_past_its_deadline_expires_though_no_slot_is_free(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        running = await system.submit(model="running")
        await provider.call_for("running")
        waiting = await system.submit(model="waiting", timeout_s=SOON_S)
        story = await system.story(waiting)
        (await provider.call_for("running")).end()
        assert (await system.story(running)).types[-1] == "completed"

    assert await system.queue_keys(waiting) == []
    assert (story.types, story.code) == (["queued", "expired"], "deadline_passed")
    assert (story.end["usage"], story.end["sha256"]) == (None, EMPTY_SHA256)
    assert len(provider.calls) == 1


async def test_a_running_job_whose_worker_does_not_see_to_its_deadline_expires(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "some ", "words")
    await over(system, job_id)
    await system.check_next(job_id)
    async with running_worker(system.settings, ControlledProvider()):
        story = await system.story(job_id)

    assert (story.types, story.code) == (["queued", "started", "delta", "delta", "expired"], "deadline_passed")
    assert story.end["usage"]["source"] == "partial"
    assert story.end["usage"]["completion_tokens"] == 2
    assert await system.queue_keys(job_id) == []


# Abandoned jobs.


async def test_an_abandoned_job_that_runs_is_cancelled_as_abandoned(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.say("Is anybody there?")
        await system.until(job_id, EventType.DELTA)
        await system.write(job_id, abandon_at=1)
        await system.core.queue.schedule_check([job_id], 0)
        story = await system.story(job_id)
        await call.until_closed()

    assert (story.types, story.code) == (["queued", "started", "delta", "cancelled"], "abandoned")
    assert story.end["usage"]["source"] == "partial"
    assert await system.queue_keys(job_id) == []


async def test_an_abandoned_job_that_waits_is_cancelled_as_abandoned(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        await system.submit(model="running")
        await provider.call_for("running")
        waiting = await system.submit(model="waiting")
        await system.write(waiting, abandon_at=1)
        await system.core.queue.schedule_check([waiting], 0)
        story = await system.story(waiting)

    assert (story.types, story.code) == (["queued", "cancelled"], "abandoned")


async def test_a_caller_that_returns_in_time_keeps_its_job(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        kept, abandoned = [await system.submit(model=model) for model in ("kept", "abandoned")]
        call = await provider.call_for("kept")
        for job_id, score in ((kept, 1), (abandoned, 2)):
            await system.write(job_id, abandon_at=1)
            await system.write(kept, abandon_at=10**14)
            await system.check_next(job_id, score)
        # The reaper has seen the other one first.
        assert (await system.story(abandoned)).code == "abandoned"
        call.end()
        assert (await system.story(kept)).types[-1] == "completed"


# Cancels that get no answer.


async def test_a_cancel_that_a_frozen_worker_does_not_answer_is_carried_out_by_another(system: System) -> None:
    async with controlled_upstream() as (provider, url), Processes(system.settings) as processes:
        frozen = await processes.worker(upstream_url=url)
        job_id = await system.submit()
        call = await provider.call()
        call.say("some ", "words")
        await system.until(job_id, EventType.DELTA, count=2)
        await processes.worker(upstream_url=url, lease_s=1.0)  # as long as it first waits, on a server that is young
        frozen.freeze()
        assert (await system.cancel(job_id))["status"] in ("cancelling", "cancelled")
        story = await system.story(job_id)
        call.say("never to be seen")
        frozen.thaw()
        await call.until_closed()
        assert await system.queue_keys(job_id) == []

    assert story.types == ["queued", "started", "delta", "delta", "cancelled"]
    assert story.code == "cancelled"
    assert story.end["usage"]["completion_tokens"] == 2
    assert (await system.story(job_id)).events == story.events


# Jobs that the queue lost.


async def test_a_job_that_the_queue_has_lost_is_found_and_run(system: System) -> None:
    job_id = await system.submit()
    await system.lose(job_id)
    assert await system.queue_keys(job_id) == ["active"]
    await system.check_next(job_id)
    with captured_logs() as logs:
        async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
            story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert len(logs.named("reconciler.put_back")) == 1
    assert await system.queue_keys(job_id) == []


async def test_a_job_whose_message_alone_is_lost_is_found_and_run(system: System) -> None:
    job_id = await system.submit()
    await system.core.client.delete(ARQ_JOB + job_id)
    await out_of_reach(system, job_id)
    reaper = Reaping(system.core)
    await system.check_next(job_id)
    await reaper.sweep()
    assert await system.core.client.get(ARQ_JOB + job_id) == serialize(
        {"t": None, "f": ARQ_FUNCTION, "a": [job_id], "k": {}, "et": created_ms(job_id)}
    )
    await system.due(job_id)
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        assert (await system.story(job_id)).types[-1] == "completed"


# Entries that it held for nothing.


async def test_what_is_left_of_a_job_that_has_ended_is_removed(system: System) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        before = (await system.story(job_id)).events
    # As if its worker had died between the terminal event and the last completion step.
    client = system.core.client
    await client.set(ARQ_JOB + job_id, b"{}")
    await client.zadd(system.lane, {job_id: 1e15})
    await client.zadd(system.core.keys.active, {job_id: 1})
    witness = await system.submit()
    await out_of_reach(system, witness)
    await over(system, witness)
    await system.check_next(witness, 2)
    async with running_worker(system.settings, provider):
        assert (await system.story(witness)).types[-1] == "expired"

    assert await system.queue_keys(job_id) == []
    assert (await system.story(job_id)).events == before
    assert len(provider.calls) == 1


@pytest.mark.parametrize("request_is_gone", [False, True])
async def test_a_job_that_has_ended_is_not_run_again_by_the_worker_that_takes_it(
    system: System, request_is_gone: bool
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        before = (await system.story(job_id)).events
        client = system.core.client
        if request_is_gone:
            await client.delete(system.core.keys.job(job_id).request)
        message: dict[str, Any] = {"t": None, "f": ARQ_FUNCTION, "a": [job_id], "k": {}, "et": created_ms(job_id)}
        await client.set(ARQ_JOB + job_id, serialize(message))
        await client.zadd(system.core.keys.active, {job_id: 1e15})
        await client.zadd(system.lane, {job_id: 1})
        # The only slot sees to it before.
        await system.story(await system.submit(model="next"))

    assert await system.queue_keys(job_id) == []
    assert (await system.story(job_id)).events == before
    assert [call.model for call in provider.calls] == ["mock", "next"]


async def test_a_job_without_a_record_is_forgotten(system: System) -> None:
    ghost = fresh_job_id()
    await system.core.client.zadd(system.core.keys.active, {ghost: 1})
    await system.core.client.set(ARQ_JOB + ghost, b"{}")
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert await system.queue_keys(ghost) == []


# One reaper, step by step.


async def test_a_job_that_is_due_for_a_check_is_checked_by_one_reaper_only(system: System) -> None:
    job_id = await system.submit()
    await over(system, job_id)
    await system.check_next(job_id)
    one, other = Reaping(system.core, ends=False), Reaping(system.core, ends=False)
    for reaper in (one, other, one):
        await reaper.sweep()

    assert one.ended == [(job_id, "deadline_passed")]
    assert other.ended == []


async def test_a_job_that_cannot_be_looked_at_does_not_keep_the_reaper_from_the_others(system: System) -> None:
    odd, other = [await system.submit() for _ in range(2)]
    for score, job_id in enumerate((odd, other), 1):
        await over(system, job_id)
        await system.check_next(job_id, score)
    reaper = Reaping(system.core, odd=odd)
    with captured_logs() as logs:
        await reaper.sweep()

    assert reaper.ended == [(other, "deadline_passed")]
    assert [line["job"] for line in logs.named("reaper.check_failed")] == [odd]


async def test_a_running_job_gets_a_moment_more_than_its_deadline_for_its_worker_to_end_it(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    seconds, _ = await system.core.client.time()
    reaper = Reaping(system.core)
    for age_s, ended in ((1, []), (3, [(job_id, "deadline_passed")])):
        await system.write(job_id, deadline=(seconds - age_s) * 1000)
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_a_cancelled_job_gets_a_moment_for_its_worker_to_end_it(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    await system.core.cancel(job_id)
    seconds, _ = await system.core.client.time()
    reaper = Reaping(system.core)
    for age_s, ended in ((0, []), (3, [(job_id, "cancelled")])):
        await system.write(job_id, cancel_at=(seconds - age_s) * 1000)
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_a_job_that_ends_while_it_is_looked_at_is_not_put_back(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await system.submit()
    load_many = JobRecords.load_many

    async def slow_load_many(store: JobRecords, job_ids: list[str]) -> list[Job | BrokenJob | None]:
        stale = await load_many(store, job_ids)
        monkeypatch.setattr(JobRecords, "load_many", load_many)
        assert await system.core.cancel(job_id) == "cancelled"
        await system.core.queue.done(job_id, DEFAULT_LANE)
        return stale

    monkeypatch.setattr(JobRecords, "load_many", slow_load_many)
    await system.check_next(job_id)
    with captured_logs() as logs:
        await Reaping(system.core).sweep()

    assert await system.queue_keys(job_id) == []
    assert logs.named("reconciler.put_back") == []


async def test_after_its_servers_start_everybody_first_has_a_lease_to_say_that_they_are_there(system: System) -> None:
    job_id = await system.submit()
    await left_behind(system, job_id, "x")
    await system.write(job_id, deadline=1)
    reaper = Reaping(system.core, wait_s=10.0)
    for passed_s, ended in ((9.9, []), (0.2, [(job_id, "deadline_passed")])):
        reaper.time.now += passed_s
        await system.check_next(job_id)
        await reaper.sweep()
        assert reaper.ended == ended


async def test_after_an_outage_everybody_first_has_a_lease_to_say_that_they_are_there(tmp_path: Path) -> None:
    async with running_valkey(tmp_path / "own-valkey") as valkey, open_core(valkey.url, "own") as core:
        job_id = await core.queued()
        await core.client.hset(core.keys.job(job_id).record, mapping={"deadline": 1})  # type: ignore[misc]
        reaper = Reaping(core, lease_s=10.0)
        with captured_logs() as logs:
            await valkey.stop()
            running = asyncio.create_task(reaper.run())
            await logs.wait_for("reaper.redis_lost")
            running.cancel()
            await asyncio.wait([running])
        await valkey.start()
        for passed_s, ended in ((9.0, []), (1.5, [(job_id, "deadline_passed")])):
            reaper.time.now += passed_s
            await core.client.zadd(core.keys.active, {job_id: 1})
            await reaper.sweep()
            assert reaper.ended == ended


async def test_jobs_that_nobody_can_read_do_not_stop_the_others(system: System) -> None:
    broken, waiting = [await system.submit(model=model) for model in ("broken", "waiting")]
    await system.write(broken, v=99)
    await over(system, waiting)
    await system.check_next(broken, 1)
    await system.check_next(waiting, 2)
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert reaper.ended == [(waiting, "deadline_passed")]


async def test_a_job_that_nobody_can_read_and_the_queue_has_lost_is_found_and_ended(system: System) -> None:
    job_id = await system.submit()
    await system.write(job_id, v=99)
    await system.lose(job_id)
    await system.check_next(job_id)
    async with system.commands() as command, running_worker(system.settings.model_copy(update={"lease_s": 0.5})):
        await command(f"DEL {ARQ_JOB}{job_id}")

    assert await system.core.story(job_id) == ["0-1 queued", "1-1 failed"]
    assert await system.queue_keys(job_id) == []


async def test_a_job_that_nobody_can_read_and_that_waits_is_told_of_once_in_a_while(system: System) -> None:
    job_id = await system.submit()
    await system.write(job_id, v=99)
    await system.check_next(job_id)
    with captured_logs() as logs:
        await Reaping(system.core).sweep()
    seconds, _ = await system.core.client.time()
    check_at_ms = await system.core.client.zscore(system.core.keys.active, job_id)

    assert len(logs.named("reaper.broken_job")) == 1
    assert check_at_ms is not None and check_at_ms / 1000 - seconds > JOB_CHECK_S - 5
    assert logs.named("reconciler.put_back") == []


async def test_a_job_that_nobody_can_read_ends_when_its_time_is_over(system: System) -> None:
    early, late = [await system.submit() for _ in range(2)]
    for job_id in (early, late):
        await system.write(job_id, v=99)
        await system.check_next(job_id)
    await over(system, late)
    reaper = Reaping(system.core)
    await reaper.sweep()

    assert reaper.ended == [(late, "deadline_passed")]


async def test_a_record_that_is_none_does_not_stop_the_others_and_is_logged_once(system: System) -> None:
    odd, other = [await system.submit() for _ in range(2)]
    await system.core.client.set(system.core.keys.job(odd).record, "not a hash")
    await over(system, other)
    reaper = Reaping(system.core, ends=False)
    with captured_logs() as logs:
        for score in (1, 2):
            for job_id in (odd, other):
                await system.check_next(job_id, score)
            await reaper.sweep()

    assert reaper.ended == [(other, "deadline_passed")] * 2
    assert len(logs.named("reaper.broken_job") + logs.named("reaper.check_failed")) == 1


async def test_a_job_that_nobody_can_read_and_that_has_ended_is_forgotten(system: System) -> None:
    job_id = await system.submit()
    await system.cancel(job_id)
    await system.write(job_id, v=99)
    await system.core.client.zadd(system.core.keys.active, {job_id: 1})
    await Reaping(system.core).sweep()

    assert await system.queue_keys(job_id) == []


async def test_a_job_that_is_in_order_is_left_alone(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(ask(timeout_s=LONG_S))
        await provider.call()
        await system.check_next(job_id)
        with captured_logs() as logs:
            reaper = Reaping(system.core)
            await reaper.sweep()
        assert reaper.ended == []
        assert logs.named("reconciler.put_back") == []
        (await provider.call()).end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]
    assert (await system.job(job_id)).status is State.COMPLETED
