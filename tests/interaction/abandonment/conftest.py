"""Provide an upstream with a real socket, and settings in which no time-out can replace an abandonment."""

from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from tests.support.upstream import Upstream, running_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Provide a real socket to close."""
    async with running_upstream() as opened:
        yield opened


@pytest.fixture
def settings(settings: Settings, upstream: Upstream) -> Settings:
    """Make settings in which no time-out can replace an abandonment; headers go out with the first token."""
    long_waits = {"first_token_timeout_s": 300.0, "gap_timeout_s": 300.0, "headers_hold_s": 300.0}
    return settings.model_copy(update={"upstream_url": upstream.base_url, "send_timeout_s": 300.0, **long_waits})
