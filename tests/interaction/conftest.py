"""A gateway, and a desk at which a test writes its jobs' logs."""

from collections.abc import AsyncIterator

import pytest

from shared.settings import Settings
from tests.support.client import Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.scribe import Desk, desk


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway on this test's keys."""
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Client:
    """Alice."""
    return gateway.client


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[Desk]:
    """Where the logs are written."""
    async with desk(settings) as opened:
        yield opened
