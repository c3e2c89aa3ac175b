"""Provide a system in which no test waits for the leases of its workers."""

from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from tests.interaction.reaper.left_jobs import LONG_S
from tests.support.system import System, running_system


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys; no test waits for the leases of its workers."""
    async with running_system(settings.model_copy(update={"lease_s": LONG_S, "worker_slots": 1})) as opened:
        await opened.forgo_reconciling()
        yield opened
