"""Provide a scripted upstream on a real socket, and the provider that calls it."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.openai_provider.reading import KEY
from tests.support.upstream import Upstream, running_upstream
from worker.upstream.providers.openai_compatible import OpenAICompatible


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def provider(upstream: Upstream) -> AsyncIterator[OpenAICompatible]:
    opened = OpenAICompatible("mock", upstream.base_url, KEY)
    yield opened
    await opened.close()
