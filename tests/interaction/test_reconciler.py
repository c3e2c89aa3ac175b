"""Recover with queue and jobs on two servers: if one forgets or holds back, the other repairs it. Jobs run once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB
from shared.store.queue import Queue
from shared.store.reconcile_marker import ReconcileMarker
from shared.store.server_check import RedisServer
from shared.store.tenant_lists import TenantLists
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import TIMEOUT_S, captured_logs, frozen, open_core
from tests.support.short_settings import stream_redis_url_of
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey
from worker.dispatch.reaper import Reaper
from worker.dispatch.reconciler import identity_of

LEASE_S = 1.0
BEATS_PER_LEASE = 4


@pytest.fixture
async def queue_server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Start a server for the queue only."""
    async with running_valkey(tmp_path / "queue") as valkey:
        yield valkey


@pytest.fixture
async def system(settings: Settings, queue_server: EmbeddedValkey) -> AsyncIterator[System]:
    """Start a gateway with its queue on that server, and its jobs on the run's own Valkey."""
    own = settings.model_copy(update={"redis_url": queue_server.url, "stream_redis_url": settings.redis_url})
    async with running_system(own) as opened:
        yield opened


async def forget(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Restart the server without its data, as after a fail-over to a replica that had nothing yet."""
    await valkey.stop()
    for file in (tmp_path / "queue" / "appendonlydir").iterdir():
        file.unlink()
    await valkey.start()


async def test_jobs_that_the_queue_lost_are_run_and_a_running_one_continues(
    system: System, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    provider = ControlledProvider(on_call=lambda call: None if call.model == "running" else call.end())
    settings = system.settings.model_copy(update={"worker_slots": 1})
    async with running_worker(settings, provider):
        running = await system.submit(model="running")
        call = await provider.call_for("running")
        call.say("before ")
        await system.until(running, EventType.DELTA)
        waiting = [await system.submit(model=f"waiting-{number}") for number in range(3)]
        with captured_logs() as logs:
            await forget(queue_server, tmp_path)
            await logs.wait_for("reconciler.put_back", times=4)
        call.say("and after")
        call.end()
        story = await system.story(running)
        stories = [await system.story(job_id) for job_id in waiting]

    assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
    assert [each.types for each in stories] == [["queued", "started", "completed"]] * 3
    assert len(provider.calls) == 4


async def test_a_fleet_restarted_together_with_its_queue_finds_lost_jobs(
    system: System, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    async with running_worker(system.settings, ControlledProvider()):
        with captured_logs() as logs:
            await logs.wait_for("reconciler.completed")
    job_id = await system.submit()
    await forget(queue_server, tmp_path)
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "completed"]


async def test_jobs_are_compared_once_for_each_server(system: System) -> None:
    with captured_logs() as logs:
        async with running_worker(system.settings, ControlledProvider()):
            await logs.wait_for("reconciler.completed")
    async with open_core(stream_redis_url_of(system.settings), system.settings.key_prefix) as jobs:
        server = await identity_of(jobs.store, system.core.queue)
        marker = ReconcileMarker(jobs.client, jobs.keys)
        assert not await marker.acquire(server, 60.0)
        assert await marker.acquire("another", 60.0)
        assert not await marker.acquire("another", 60.0)


async def test_a_job_whose_end_was_lost_is_restored_and_ended(system: System, tmp_path: Path) -> None:
    async with running_valkey(tmp_path / "jobs") as jobs_server:
        own = system.settings.model_copy(update={"stream_redis_url": jobs_server.url})
        provider = ControlledProvider(on_call=lambda call: call.end())
        async with running_system(own) as apart, open_core(jobs_server.url, own.key_prefix) as jobs:
            # A worker that is stopped meanwhile would leave its claim behind for as long as the test waits.
            with captured_logs() as logs:
                async with running_worker(own, provider):
                    job_id = await apart.submit()
                    await apart.story(job_id)
                    await logs.wait_for("reconciler.completed")
            record, last = jobs.keys.job(job_id).record, str((await jobs.job(job_id)).last)
            await jobs.client.hset(record, mapping={"status": "running", "seq": 1})  # type: ignore[misc]
            await jobs.client.persist(record)
            await jobs.client.execute_command("XDEL", jobs.keys.job(job_id).log, last)
            await jobs_server.stop()
            await jobs_server.start()
            async with running_worker(own, provider), asyncio.timeout(2 * TIMEOUT_S):
                while not (await jobs.job(job_id)).ended:
                    pass


async def test_a_worker_that_is_stopped_while_it_reconciles_lets_another_one_start_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(TenantLists, "relist", endless)
    async with running_worker(system.settings, ControlledProvider()):
        await asyncio.wait_for(begun.wait(), TIMEOUT_S)

    async with open_core(stream_redis_url_of(system.settings), system.settings.key_prefix) as jobs:
        assert await ReconcileMarker(jobs.client, jobs.keys).acquire("another", 60.0)


async def test_a_reconciliation_that_fails_is_tried_again_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Queue.restore
    failed = False

    async def loading(queue: Queue, *args: Any, **options: Any) -> bool:
        """Fail once, as a server does that answers again and still loads its old data."""
        nonlocal failed
        if not failed:
            failed = True
            raise BusyLoadingError("LOADING Redis is loading the dataset in memory")
        return await restore(queue, *args, **options)

    provider = ControlledProvider()
    await system.submit()
    monkeypatch.setattr(Queue, "restore", loading)
    with captured_logs() as logs:
        async with running_worker(system.settings, provider):
            await logs.wait_for("reconciler.redis_lost")
            await logs.wait_for("reconciler.completed")
            (await provider.call()).end()


async def test_an_unreadable_job_that_the_queue_lost_is_restored_and_ended(
    system: System, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    job_id = await system.submit()
    async with open_core(stream_redis_url_of(system.settings), system.settings.key_prefix) as jobs:
        await jobs.client.hset(jobs.keys.job(job_id).record, "v", "99")  # type: ignore[misc]
        await forget(queue_server, tmp_path)
        async with system.commands() as command, running_worker(system.settings, ControlledProvider()):
            await command(f"DEL {ARQ_JOB}{job_id}")
        assert await jobs.story(job_id) == ["0-1 queued", "1-1 failed"]


# The other way round: the queue's server is there, the jobs' is not.


async def test_a_jobs_server_that_is_away_for_two_leases_restarts_no_job(
    settings: Settings, tmp_path: Path, an_old_server: None
) -> None:
    async with running_valkey(tmp_path / "jobs") as job_server:
        own = settings.model_copy(
            update={"stream_redis_url": job_server.url, "lease_s": LEASE_S, "gap_timeout_s": 60.0}
        )
        busy, provider = own.model_copy(update={"worker_slots": 1}), ControlledProvider()
        async with running_system(own) as system, running_worker(busy, provider):
            job_id = await system.submit()
            call = await provider.call()
            call.say("before ")
            await system.until(job_id, EventType.DELTA)
            async with running_worker(own, provider), system.commands() as command:
                with frozen(job_server) as thaw:
                    for beat in range(2 * BEATS_PER_LEASE):
                        await command(f"SET {ARQ_IN_PROGRESS}{job_id} ")
                        if beat == BEATS_PER_LEASE + 1:  # half as many as with both servers: it is two leases
                            thaw()
                call.say("and after")
                call.end()
                story = await system.story(job_id)

    assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
    assert len(provider.calls) == 1


async def test_a_worker_waits_for_the_younger_of_its_servers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def of_age(_: Queue) -> RedisServer:
        return RedisServer("old", 86_400.0)

    waits: list[float] = []

    def noted(reaper: Reaper, *args: Any, wait_s: float, **options: Any) -> None:
        waits.append(wait_s)
        init(reaper, *args, wait_s=wait_s, **options)

    init = Reaper.__init__
    monkeypatch.setattr(Queue, "server", of_age)
    monkeypatch.setattr(Reaper, "__init__", noted)
    async with running_valkey(tmp_path / "jobs") as job_server:
        own = settings.model_copy(update={"stream_redis_url": job_server.url, "lease_s": 600.0})
        async with running_worker(own, ControlledProvider()):
            assert waits[0] > 500.0
