"""Provide a hub with a fast timer, and the store in which a test writes its jobs' logs."""

from collections.abc import AsyncIterator

import pytest

from gateway.streams import hub as hub_module
from gateway.streams.hub import Hub
from shared.config.settings import Settings
from tests.contract.hub.running import running_hub
from tests.support.log_writer import JobSide, job_side


@pytest.fixture(autouse=True)
def quick_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed up the hub's timer: it ticks a hundred times faster than in production."""
    monkeypatch.setattr(hub_module, "_TICK_S", 0.005)


@pytest.fixture
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    async with running_hub(settings) as running:
        yield running


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[JobSide]:
    """Provide the store in which the test writes its jobs' logs."""
    async with job_side(settings) as opened:
        yield opened
