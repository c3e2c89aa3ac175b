"""A gateway, the job side of Redis, with which a test writes its jobs' logs, and the provider of a worker."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shared.config.settings import Settings
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from shared.store.server_check import RedisServer, server_of
from tests.support.api_errors import everything
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide, LogWriter, job_side
from tests.support.system import System, running_system
from worker.model import retry


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Start a gateway on this test's keys."""
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Client:
    """Alice."""
    return gateway.client


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys, with stored state that can be read."""
    async with running_system(settings) as opened:
        yield opened


@pytest.fixture
def root(system: System) -> Client:
    """Return an admin."""
    return system.client.as_("sk-root")


@pytest.fixture
def provider() -> ControlledProvider:
    """Return a provider that says the text of its test."""
    return ControlledProvider()


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[JobSide]:
    """Open the job side that writes the logs."""
    async with job_side(settings) as opened:
        yield opened


@pytest.fixture
async def running(writing: JobSide) -> LogWriter:
    """Return a job of Alice's that runs and has said `a b c d` in one entry: 0-1, 1-1, 1-2 to 1-5."""
    writer = await writing.started()
    await writer.say("a", "b", "c", "d")
    return writer


@pytest.fixture
async def finished(running: LogWriter) -> LogWriter:
    """Return the same, completed with 1-6."""
    await running.complete()
    return running


@pytest.fixture
async def unchanged(writing: JobSide, gateway: Gateway) -> AsyncIterator[None]:
    """Check that after the test nothing is stored that was not there before."""
    before = await everything(writing)
    yield
    assert await everything(writing) == before


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for a moment only before another attempt."""
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
def an_old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's Valkey may be younger than a test's lease: to the workers of this process it is not."""

    async def aged(side: Queue | JobRecords) -> RedisServer:
        return replace(await server_of(side._client), up_s=86_400.0)

    for side in (Queue, JobRecords):
        monkeypatch.setattr(side, "server", aged)
