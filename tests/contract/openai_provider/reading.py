"""Read answers of an OpenAI-compatible upstream: their chunks, texts and finish reasons.

Not here: upstreams (tests/support/upstream).
"""

import asyncio
from typing import Any

from tests.support.upstream import TIMEOUT_S
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.wire.chunk import Chunk

KEY = "sk-of-the-upstream"


async def read(provider: OpenAICompatible, request: dict[str, Any]) -> list[Chunk]:
    async with asyncio.timeout(TIMEOUT_S), provider.stream(request) as chunks:
        return [chunk async for chunk in chunks]


async def read_through_target(provider: OpenAICompatible, request: dict[str, Any]) -> list[Chunk]:
    target = ProviderTarget(provider, first_token_s=TIMEOUT_S, gap_s=TIMEOUT_S)
    async with target.stream(request, total_s=TIMEOUT_S) as chunks:
        return [chunk async for chunk in chunks]


def deltas(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [delta for chunk in chunks for delta in chunk.deltas]


def text(chunks: list[Chunk], choice: int = 0) -> str:
    return "".join(delta.get("content", "") for delta in deltas(chunks) if delta.get("index", 0) == choice)


def finished(chunks: list[Chunk]) -> dict[int, str]:
    return dict(end for chunk in chunks for end in chunk.finished)
