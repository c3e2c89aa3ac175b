"""Test embeddings through a target: their time, errors, and providers that have none."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from shared.model.errors import DeadlinePassed, ProviderTimeout, ProviderUnable, ProviderUnreachable
from tests.unit.worker.upstream.stub_provider import (
    FIRST_TOKEN_S,
    GAP_S,
    TOTAL_S,
    VECTORS,
    StubProvider,
    ending,
    target,
    token,
)
from worker.upstream.chain import ProviderTarget
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.vectors import Vectors


async def embed(provider: StubProvider, *, total_s: float = TOTAL_S) -> Vectors:
    return await target(provider).embed({"input": ["a"]}, total_s=total_s)


async def test_vectors_are_passed_on_as_they_come() -> None:
    assert await embed(StubProvider(token())) is VECTORS


async def test_a_provider_that_sends_no_vectors_times_out(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    embedding = asyncio.create_task(embed(provider))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S)
    with pytest.raises(ProviderTimeout, match="sent no embeddings for 20 s"):
        await ending(embedding)
    assert provider.closed.is_set()


async def test_a_job_whose_time_is_over_first_is_not_its_providers_fault(pass_time: Callable[[float], None]) -> None:
    provider = StubProvider()
    embedding = asyncio.create_task(embed(provider, total_s=FIRST_TOKEN_S / 2))
    await provider.waiting.wait()
    pass_time(FIRST_TOKEN_S / 2)
    with pytest.raises(DeadlinePassed):
        await ending(embedding)


async def test_a_providers_own_time_out_and_other_errors_are_passed_on() -> None:
    for error in (ProviderUnreachable("Gone."), TimeoutError("a defect")):
        with pytest.raises(type(error)) as caught:
            await embed(StubProvider(error))
        assert caught.value is error


class Chats:
    """Act as a provider that can't embed."""

    name = "chats"

    def stream(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        raise NotImplementedError

    async def models(self) -> list[str]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def test_a_provider_without_embeddings_refuses_them_with_its_name_and_its_models() -> None:
    chats = ProviderTarget(Chats(), first_token_s=FIRST_TOKEN_S, gap_s=GAP_S, model="gpt-x")
    with pytest.raises(ProviderUnable, match=r"^The provider chats has no embeddings, so its model gpt-x can't") as no:
        await chats.embed({"model": "m", "input": ["a"]}, total_s=TOTAL_S)

    assert (no.value.code, no.value.param, no.value.retryable) == ("model_not_found", "model", False)
