"""Publish a gateway's readers: the content, the time, and that nothing but time ends a viewer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from gateway.api.services import Services
from gateway.app import running
from gateway.streams.viewer_heartbeat import ViewerHeartbeat
from shared.config.settings import Settings
from shared.model.bounds import VIEWS
from shared.model.events import START
from shared.model.jobs import VIEWER_LEASE_S, Abandonment, JobSpec, OnDisconnect
from shared.process.clock import SystemClock
from shared.store.refusals import PassingRefusal
from shared.store.viewers import View, Viewers
from tests.support.client import TIMEOUT_S
from tests.support.core import make_spec
from tests.support.gateway import running_gateway, until
from tests.support.log_writer import PROMPT, JobSide, LogWriter, job_side
from tests.support.valkey import running_valkey

GRACE_S = 5.0
ABANDONABLE = Abandonment(OnDisconnect.CANCEL, first_viewer_timeout_s=60.0, disconnect_grace_s=GRACE_S)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """Start a gateway's parts."""
    async with running(settings) as opened:
        yield opened


@pytest.fixture
def heartbeat(services: Services) -> ViewerHeartbeat:
    """One of them."""
    return services.viewer_heartbeat


@pytest.fixture
async def job(writing: JobSide) -> LogWriter:
    """Return a running job that is given up without viewers, and has a scheduled check, as each does."""
    return await started(writing)


async def started(writing: JobSide, **changes: Any) -> LogWriter:
    """Start a job in the same way, with changes to its spec."""
    spec: JobSpec = make_spec(**{"abandonment": ABANDONABLE, "timeout_s": 600.0, **changes})
    await writing.store.create(spec, 1)
    await writing.client.zadd(writing.keys.active, {spec.id: 10**14})
    return await writing.begin(spec.id)


async def abandoned_in_s(writing: JobSide, job: LogWriter) -> float:
    """In how many seconds the job is given up."""
    return (await writing.store.load(job.job_id)).abandon_ms / 1000 - SystemClock().wall_ms() / 1000


async def looked_at_in_s(writing: JobSide, job: LogWriter) -> float:
    """Return in how many seconds the reaper checks it."""
    score: float | None = await writing.client.zscore(writing.keys.active, job.job_id)
    assert score is not None
    return score / 1000 - SystemClock().wall_ms() / 1000


async def viewers(services: Services, job: LogWriter) -> int:
    """Return the published count of viewers."""
    (count,) = await services.viewers.count([job.job_id])
    return count


async def shown(so: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Wait until Redis shows it."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await so():
            pass


def readers_of(heartbeat: ViewerHeartbeat, job: LogWriter, *, abandonable: bool = True, counted: bool = False) -> Any:
    return heartbeat.reader(job.job_id, START, abandonable=abandonable, counted=counted)


@pytest.fixture
def quick_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life a hundred times more often than for people."""
    monkeypatch.setattr("gateway.streams.viewer_heartbeat._LAZY_S", 0.01)
    monkeypatch.setattr("gateway.streams.viewer_heartbeat._REFRESH_S", 0.01)


@pytest.fixture
def no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish nothing except urgent signs."""
    monkeypatch.setattr("gateway.streams.viewer_heartbeat._LAZY_S", 3600.0)


# Coming and leaving.


@pytest.mark.usefixtures("no_signs")
async def test_the_arrival_of_a_reader_and_its_departure_are_reported_at_once(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    async with readers_of(heartbeat, job):
        await shown(lambda: _is(viewers(services, job), 1))
        assert VIEWER_LEASE_S < await abandoned_in_s(writing, job) <= VIEWER_LEASE_S + GRACE_S
    await shown(lambda: _is(viewers(services, job), 0))
    await heartbeat.report()
    assert 0 < await abandoned_in_s(writing, job) <= GRACE_S
    assert 0 < await looked_at_in_s(writing, job) <= GRACE_S


async def _is(counting: Coroutine[Any, Any, int], expected: int) -> bool:
    return await counting == expected


@pytest.mark.usefixtures("no_signs")
async def test_the_last_of_many_readers_counts(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    async with readers_of(heartbeat, job):
        async with readers_of(heartbeat, job):
            await heartbeat.report()
            assert await viewers(services, job) == 2
        await heartbeat.report()
        assert await viewers(services, job) == 1
        assert await looked_at_in_s(writing, job) > GRACE_S
    await heartbeat.report()
    assert await looked_at_in_s(writing, job) <= GRACE_S


@pytest.mark.usefixtures("no_signs")
async def test_one_of_two_gateways_may_lose_its_readers(settings: Settings, writing: JobSide, job: LogWriter) -> None:
    async with running(settings) as one, running(settings) as two, readers_of(two.viewer_heartbeat, job):
        await two.viewer_heartbeat.report()
        async with readers_of(one.viewer_heartbeat, job):
            await one.viewer_heartbeat.report()
            assert await viewers(one, job) == 2
        await one.viewer_heartbeat.report()
        assert await viewers(one, job) == 1
        assert await abandoned_in_s(writing, job) > GRACE_S
    assert await abandoned_in_s(writing, job) <= GRACE_S


@pytest.mark.usefixtures("quick_signs")
async def test_the_lease_continues_while_a_job_has_readers(
    heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    async with readers_of(heartbeat, job):
        await heartbeat.report()
        before = (await writing.store.load(job.job_id)).abandon_ms
        await shown(lambda: _is_later(writing, job, before))


async def _is_later(writing: JobSide, job: LogWriter, than_ms: int) -> bool:
    return (await writing.store.load(job.job_id)).abandon_ms > than_ms


@pytest.mark.usefixtures("no_signs")
async def test_the_readers_of_a_job_that_continues_anyway_are_not_urgent(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide
) -> None:
    job = await started(writing, abandonment=Abandonment())
    async with readers_of(heartbeat, job, abandonable=False):
        assert not heartbeat._urgent.is_set()
        await heartbeat.report()
        assert await viewers(services, job) == 1
    await heartbeat.report()
    assert await viewers(services, job) == 0
    assert (await writing.store.load(job.job_id)).abandon_ms == 0


@pytest.mark.usefixtures("quick_signs")
async def test_the_readers_of_a_job_that_continues_anyway_are_still_reported(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide
) -> None:
    job = await started(writing, abandonment=Abandonment())
    async with readers_of(heartbeat, job, abandonable=False):
        await shown(lambda: _is(viewers(services, job), 1))


@pytest.mark.usefixtures("no_signs")
async def test_a_caller_recorded_with_its_job_needs_no_further_report(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[View] = []

    async def note(_: Viewers, __: str, views: Sequence[View]) -> list[float | None]:
        reported.extend(views)
        return [None] * len(views)

    monkeypatch.setattr(Viewers, "report", note)
    job = await started(writing, viewer=heartbeat._gateway)
    assert await viewers(services, job) == 1
    async with readers_of(heartbeat, job, counted=True) as reader:
        await job.complete()
        while await reader.chunk():
            pass
    await heartbeat.report()
    assert reported == []


@pytest.mark.usefixtures("no_signs")
async def test_a_second_reader_of_a_callers_job_is_reported(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide
) -> None:
    job = await started(writing, viewer=heartbeat._gateway)
    async with readers_of(heartbeat, job), readers_of(heartbeat, job, counted=True):
        await heartbeat.report()
        assert await viewers(services, job) == 2


@pytest.mark.usefixtures("no_signs")
async def test_a_reader_whose_request_is_cancelled_has_left_too(
    heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async with readers_of(heartbeat, job):
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await reading.wait()
    await heartbeat.report()
    task.cancel()
    await asyncio.wait([task])
    await heartbeat.report()
    assert await looked_at_in_s(writing, job) <= GRACE_S


@pytest.mark.usefixtures("no_signs")
async def test_a_reader_released_by_the_gateway_has_a_lease_to_return(
    services: Services, heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    """A deploy must not cancel jobs that have readers."""
    async with readers_of(heartbeat, job) as reader:
        await heartbeat.report()
        reader.break_off("This gateway is shutting down.")
    await heartbeat.report()
    assert await viewers(services, job) == 0
    assert VIEWER_LEASE_S < await abandoned_in_s(writing, job) <= VIEWER_LEASE_S + GRACE_S


@pytest.mark.usefixtures("no_signs")
async def test_a_released_caller_that_cannot_return_counts_as_disconnected(
    heartbeat: ViewerHeartbeat, writing: JobSide, job: LogWriter
) -> None:
    async with heartbeat.reader(job.job_id, START, abandonable=True, resumable=False) as reader:
        await heartbeat.report()
        reader.break_off("This gateway is shutting down.")
    await heartbeat.report()
    assert await abandoned_in_s(writing, job) <= GRACE_S


async def test_a_gateway_reports_all_departures_before_it_stops(
    settings: Settings, writing: JobSide, job: LogWriter
) -> None:
    async with running(settings) as services, readers_of(services.viewer_heartbeat, job):
        await services.viewer_heartbeat.report()
    assert await looked_at_in_s(writing, job) <= GRACE_S


@pytest.mark.usefixtures("no_signs")
async def test_many_readers_are_reported_in_batches(
    services: Services, heartbeat: ViewerHeartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    report = Viewers.report

    async def measure(self: Viewers, gateway: str, views: Sequence[View]) -> list[float | None]:
        sizes.append(len(views))
        return await report(self, gateway, views)

    monkeypatch.setattr(Viewers, "report", measure)
    async with AsyncExitStack() as stack:
        for number in range(2 * VIEWS + 1):
            await stack.enter_async_context(heartbeat.reader(f"job_{number}", START, abandonable=False))
        await heartbeat.report()
        assert services.metrics.viewers.of().numbers() == (2 * VIEWS + 1,)
    assert sizes == [VIEWS, VIEWS, 1]


# Failures.


@pytest.mark.usefixtures("quick_signs")
async def test_a_lost_redis_ends_nothing_and_the_signs_continue_when_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with job_side(private) as writing, running(private) as services:
            job = await started(writing)
            async with readers_of(services.viewer_heartbeat, job), asyncio.timeout(2 * TIMEOUT_S):
                await services.viewer_heartbeat.report()
                await valkey.stop()
                with capture_logs() as logs:
                    await until(lambda: any(line["event"] == "viewer_heartbeat.redis_lost" for line in logs))
                await valkey.start()
                before = (await writing.store.load(job.job_id)).abandon_ms
                await shown(lambda: _is_later(writing, job, before))


@pytest.mark.usefixtures("no_signs")
async def test_a_departure_during_an_outage_is_reported_when_redis_is_back(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with job_side(private) as writing, running(private) as services:
            job = await started(writing)
            async with readers_of(services.viewer_heartbeat, job):
                await services.viewer_heartbeat.report()
                await valkey.stop()
            assert not await services.viewer_heartbeat.report()
            await valkey.start()
            async with asyncio.timeout(2 * TIMEOUT_S):
                while await abandoned_in_s(writing, job) > GRACE_S:
                    pass


@pytest.mark.parametrize(
    "error", [PassingRefusal("NOREPLICAS Not enough good replicas to write."), ResponseError("WRONGTYPE")], ids=repr
)
@pytest.mark.usefixtures("quick_signs")
async def test_an_error_of_redis_does_not_end_the_signs(
    services: Services,
    heartbeat: ViewerHeartbeat,
    job: LogWriter,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report, errors = Viewers.report, [error]

    async def refused_once(self: Viewers, gateway: str, views: Sequence[View]) -> list[float | None]:
        if errors:
            raise errors.pop()
        return await report(self, gateway, views)

    monkeypatch.setattr(Viewers, "report", refused_once)
    async with readers_of(heartbeat, job):
        await shown(lambda: _is(viewers(services, job), 1))
    assert errors == []


@pytest.mark.usefixtures("no_signs")
async def test_a_repeated_call_is_not_cancelled_because_its_first_caller_left(
    settings: Settings, writing: JobSide
) -> None:
    body, key = {"model": "scripted", "messages": PROMPT}, {"Idempotency-Key": "once"}
    async with running_gateway(settings.model_copy(update={"disconnect_grace_s": GRACE_S})) as gateway:
        async with gateway.client.calling("/v1/chat/completions", body, headers=key):
            job = await writing.take()
            await until(lambda: bool(gateway.services.hub.readers))
        async with asyncio.timeout(TIMEOUT_S):
            while await abandoned_in_s(writing, job) > GRACE_S:
                pass
        async with gateway.client.calling("/v1/chat/completions", body, headers=key) as again:
            async with asyncio.timeout(TIMEOUT_S):
                while await abandoned_in_s(writing, job) <= GRACE_S:
                    pass
            await job.complete()
            await again.read_head()
            assert again.status == 200
