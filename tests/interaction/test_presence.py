"""Who is still there: a job lives while somebody waits for it, and for a bounded time after the last sign of that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from gateway.app import running
from gateway.presence import LEASE_S, Presence
from shared.clock import SystemClock
from shared.settings import Settings
from shared.valkey import PassingRefusal
from tests.support.client import PATIENCE_S
from tests.support.gateway import running_gateway, until
from tests.support.scribe import PROMPT, Desk, Scribe, desk
from tests.support.valkey import running_valkey

GRACE_S = 5.0


@pytest.fixture(autouse=True)
def quick_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life a hundred times more often than for people."""
    monkeypatch.setattr("gateway.presence._REFRESH_MOST_S", 0.01)
    monkeypatch.setattr("gateway.presence._REFRESH_LEAST_S", 0.01)


@asynccontextmanager
async def running_presence(writing: Desk, grace_s: float = GRACE_S) -> AsyncIterator[Presence]:
    presence = Presence(writing.store, writing.queue, grace_s=grace_s)
    task = asyncio.create_task(presence.run())
    try:
        yield presence
        await presence.settle()
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def presence(writing: Desk) -> AsyncIterator[Presence]:
    async with running_presence(writing) as running:
        yield running


@pytest.fixture
async def job(writing: Desk) -> Scribe:
    """A running job that waits for a look, as each does."""
    scribe = await writing.started()
    await writing.client.zadd(writing.keys.active, {scribe.job_id: 10**14})
    return scribe


async def abandoned_in_s(writing: Desk, job: Scribe) -> float | None:
    """In how many seconds the job is given up; None: never."""
    at_ms = (await writing.store.load(job.job_id)).abandon_ms
    return (at_ms - SystemClock().wall_ms()) / 1000 if at_ms else None


async def looked_at_in_s(writing: Desk, job: Scribe) -> float:
    """In how many seconds the reaper looks at it."""
    score: float | None = await writing.client.zscore(writing.keys.active, job.job_id)
    assert score is not None
    return score / 1000 - SystemClock().wall_ms() / 1000


async def test_while_a_caller_waits_the_job_has_a_lease(presence: Presence, writing: Desk, job: Scribe) -> None:
    async with presence.of(job.job_id, lambda: False), asyncio.timeout(PATIENCE_S):
        while (left := await abandoned_in_s(writing, job)) is None:
            pass
        assert GRACE_S < left <= LEASE_S


async def test_when_the_caller_leaves_the_job_has_the_grace_and_the_reaper_is_told(
    presence: Presence, writing: Desk, job: Scribe
) -> None:
    async with presence.of(job.job_id, lambda: False):
        pass
    await presence.settle()
    left = await abandoned_in_s(writing, job)
    assert left is not None
    assert 0 < left <= GRACE_S
    assert 0 < await looked_at_in_s(writing, job) <= GRACE_S


async def test_a_caller_who_comes_back_has_the_lease_at_once(writing: Desk, job: Scribe) -> None:
    presence = Presence(writing.store, writing.queue, grace_s=GRACE_S)
    await writing.store.abandon([job.job_id], GRACE_S)
    async with presence.of(job.job_id, lambda: True, returning=True):
        left = await abandoned_in_s(writing, job)
    assert left is not None
    assert left > GRACE_S


async def test_a_repeated_call_is_not_cancelled_because_its_first_caller_left(
    settings: Settings, writing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.presence._REFRESH_LEAST_S", 3600.0)  # the next sign of life comes too late
    body, key = {"model": "scripted", "messages": PROMPT}, {"Idempotency-Key": "once"}
    async with running_gateway(settings.model_copy(update={"disconnect_grace_s": GRACE_S})) as gateway:
        async with gateway.client.calling("/v1/chat/completions", body, headers=key):
            job = await writing.take()
        async with asyncio.timeout(PATIENCE_S):
            while (await abandoned_in_s(writing, job) or 0) > GRACE_S:
                pass
        async with gateway.client.calling("/v1/chat/completions", body, headers=key) as again:
            async with asyncio.timeout(PATIENCE_S):
                while (await abandoned_in_s(writing, job) or 0) <= GRACE_S:
                    pass
            await job.complete()
            await again.read_head()
            assert again.status == 200


async def test_the_last_of_many_callers_counts(presence: Presence, writing: Desk, job: Scribe) -> None:
    async with presence.of(job.job_id, lambda: False):
        async with presence.of(job.job_id, lambda: False):
            pass
        await presence.settle()
        assert await looked_at_in_s(writing, job) > LEASE_S
    await presence.settle()
    assert await looked_at_in_s(writing, job) <= GRACE_S


async def test_a_caller_who_has_the_end_leaves_nothing_to_do(presence: Presence, writing: Desk, job: Scribe) -> None:
    async with presence.of(job.job_id, lambda: True):
        pass
    await presence.settle()
    assert await looked_at_in_s(writing, job) > LEASE_S


async def test_a_caller_whose_request_is_cancelled_has_left_too(presence: Presence, writing: Desk, job: Scribe) -> None:
    waiting = asyncio.Event()

    async def call() -> None:
        async with presence.of(job.job_id, lambda: False):
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    await presence.settle()
    assert await looked_at_in_s(writing, job) <= GRACE_S


async def test_a_job_that_has_ended_is_left_alone(presence: Presence, writing: Desk, job: Scribe) -> None:
    async with presence.of(job.job_id, lambda: False):
        await job.complete()
        before = await writing.store.load(job.job_id)
    await presence.settle()
    assert await writing.store.load(job.job_id) == before


async def test_a_gateway_that_stops_tells_of_all_departures_first(
    settings: Settings, writing: Desk, job: Scribe
) -> None:
    async with running(settings) as services, services.presence.of(job.job_id, lambda: False):
        pass
    assert await looked_at_in_s(writing, job) <= GRACE_S


async def test_a_lost_redis_ends_nothing_and_the_lease_goes_on_when_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with desk(private) as writing, running_presence(writing) as presence:
            job = await writing.started()
            async with presence.of(job.job_id, lambda: False), asyncio.timeout(PATIENCE_S):
                await valkey.stop()
                with capture_logs() as logs:
                    await until(lambda: any(line["event"] == "presence.not_told" for line in logs))
                await valkey.start()
                before = (await writing.store.load(job.job_id)).abandon_ms
                while (await writing.store.load(job.job_id)).abandon_ms <= before:
                    pass


@pytest.mark.parametrize(
    "error", [PassingRefusal("NOREPLICAS Not enough good replicas to write."), ResponseError("WRONGTYPE")], ids=repr
)
async def test_an_error_of_redis_does_not_end_the_signs_of_life(
    presence: Presence, writing: Desk, job: Scribe, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandon, errors = writing.store.abandon, [error]

    async def refused_once(job_ids: Sequence[str], after_s: float) -> int:
        if job_ids and errors:
            raise errors.pop()
        return await abandon(job_ids, after_s)

    monkeypatch.setattr(writing.store, "abandon", refused_once)
    async with presence.of(job.job_id, lambda: True), asyncio.timeout(PATIENCE_S):
        while await abandoned_in_s(writing, job) is None:
            pass
    assert errors == []


async def test_a_departure_that_redis_did_not_hear_of_is_left_to_the_lease(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with desk(private) as writing, running_presence(writing) as presence:
            job = await writing.started()
            with capture_logs() as logs:
                async with presence.of(job.job_id, lambda: False):
                    await valkey.stop()
                await presence.settle()
            assert "presence.leave_not_told" in [line["event"] for line in logs]
