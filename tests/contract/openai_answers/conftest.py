"""Provide an upstream that sends exact bytes, and the provider that calls it."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.openai_answers.reading import KEY
from tests.support.raw_upstream import MAIN, RawUpstream, running_raw_upstream
from worker.upstream.providers.openai_compatible import OpenAICompatible


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with running_raw_upstream() as running:
        yield running


@pytest.fixture
async def provider(upstream: RawUpstream) -> AsyncIterator[OpenAICompatible]:
    opened = OpenAICompatible("mock", upstream.base_url(MAIN), KEY)
    yield opened
    await opened.close()
