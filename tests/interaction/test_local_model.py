"""Run the local model: it does all that the settings made by `tailrace up` promise."""

import sys
from collections.abc import AsyncIterator

import pytest

from gateway.cli import LOCAL_MODEL
from gateway.supervisor import Program
from tests.support.ports import reserve_port
from tests.support.processes import PYTHON, START_S, STOP_S
from worker.upstream.providers.openai_compatible import OpenAICompatible

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the model's wheel may be missing")

QUESTION = {"role": "user", "content": "What is the capital of France? Say one sentence about it."}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Start the real one and return its address."""
    port = reserve_port()
    program = Program(
        "local model",
        (*PYTHON, "worker.local_model", "--name", LOCAL_MODEL, "--port", str(port)),
        {},
        start_s=START_S,
        stop_s=STOP_S,
    )
    await program.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await program.stop()


async def tokens(url: str, *messages: dict[str, str]) -> list[str]:
    # Each with connections of its own: llama.cpp's server closes one after a stream, and does not say so before.
    provider = OpenAICompatible("local", url, None)
    request = {"model": LOCAL_MODEL, "messages": messages, "temperature": 0, "max_tokens": 24}
    try:
        async with provider.stream(request) as chunks:
            # The last one may have further fields of the chunk only.
            return [delta["content"] async for chunk in chunks for delta in chunk.deltas if "content" in delta]
    finally:
        await provider.close()


async def test_it_continues_with_an_answer_that_broke_off(url: str) -> None:
    whole = await tokens(url, QUESTION)
    assert len(whole) > 12

    rest = await tokens(url, QUESTION, {"role": "assistant", "content": "".join(whole[:8])})

    # No word is said again, and the answer is the same: it is not a new one.
    assert rest[:8] == whole[8:16]
