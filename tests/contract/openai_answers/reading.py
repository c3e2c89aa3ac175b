"""Read the answers of an upstream that sends exact bytes.

Not here: the upstream, and how its answers are built (tests/support/raw_upstream.py).
"""

from typing import Any

from tests.support.raw_upstream import Raw, RawUpstream
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.wire.chunk import Chunk

BOUND_S = 5.0
KEY = "sk-of-the-upstream"
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
EMBEDDING: dict[str, Any] = {"model": "m", "input": ["one"]}


async def read(provider: OpenAICompatible, **fields: Any) -> list[Chunk]:
    """Return the chunks of an answer, as a target of a chain gets them."""
    target = ProviderTarget(provider, first_token_s=BOUND_S, gap_s=BOUND_S)
    async with target.stream({**ASKED, **fields}, total_s=BOUND_S) as chunks:
        return [each async for each in chunks]


def text(chunks: list[Chunk]) -> str:
    """Join the text of the chunks."""
    return "".join(delta.get("content", "") for each in chunks for delta in each.deltas)


async def answered(upstream: RawUpstream, provider: OpenAICompatible, *answers: Raw, **fields: Any) -> str:
    """Return the text of an answer of these bytes."""
    upstream.play("m", *answers)
    return text(await read(provider, **fields))
