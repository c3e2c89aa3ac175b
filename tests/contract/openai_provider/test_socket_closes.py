"""Test that the upstream's socket is closed when its reader is cancelled, leaves or times out."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from shared.model.errors import ProviderTimeout
from tests.contract.openai_provider.reading import read, text
from tests.support.upstream import Upstream, ask, expected_text
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers.openai_compatible import OpenAICompatible

Reading = Callable[[], Coroutine[Any, Any, object]]
SILENT = {
    "before the headers": ask(fault="hang"),
    "before the first token": ask(fault="stall"),
    "in mid-answer": ask(fault="stall", after=3),
    "among keep-alives": ask(fault="keepalives", after=3),
}


async def cancel_task(reading: Reading, upstream: Upstream) -> None:
    task = asyncio.create_task(reading())
    await fallen_silent(upstream)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_scope(reading: Reading, upstream: Upstream) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reading)
        await fallen_silent(upstream)
        tasks.cancel_scope.cancel()


async def fallen_silent(upstream: Upstream) -> None:
    seen = await upstream.request()
    await upstream.until(lambda: seen.silent)


@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope])
@pytest.mark.parametrize("request_", SILENT.values(), ids=SILENT.keys())
async def test_a_cancel_closes_the_socket(
    provider: OpenAICompatible,
    upstream: Upstream,
    cancel: Callable[..., Awaitable[None]],
    request_: dict[str, Any],
) -> None:
    await cancel(lambda: read(provider, request_), upstream)
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_a_cancel_closes_the_socket_while_the_caller_is_busy(
    provider: OpenAICompatible, upstream: Upstream
) -> None:
    with anyio.CancelScope() as scope:
        async with provider.stream(ask(tokens=5, fault="stall", after=3)) as chunks:
            async for chunk in chunks:
                if chunk.deltas:
                    scope.cancel()
                    await anyio.sleep_forever()
    assert scope.cancelled_caught
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_leaving_early_closes_the_socket(provider: OpenAICompatible, upstream: Upstream) -> None:
    async with provider.stream(ask(tokens=100_000)) as chunks:
        async for chunk in chunks:
            if chunk.deltas:
                break
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_a_time_out_closes_the_socket(
    provider: OpenAICompatible, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ProviderTarget(provider, first_token_s=1000, gap_s=1000)

    async def read_silence() -> None:
        async with target.stream(ask(fault="keepalives"), total_s=10_000) as chunks:
            await anext(chunks)

    reading = asyncio.create_task(read_silence())
    await fallen_silent(upstream)
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + 1000)
    with pytest.raises(ProviderTimeout, match="The provider mock sent no token for 1000 s"):
        await reading
    await upstream.until(lambda: upstream.requests[0].closed and not upstream.sockets)


async def test_an_upstream_of_its_own_process_sees_the_close(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.upstream", "--for", "60"]
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(*command, cwd=root, stdout=asyncio.subprocess.PIPE, env=os.environ)
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        provider = OpenAICompatible("mock", base_url)
        request = ask(tokens=50)
        assert text(await read(provider, request)) == expected_text(request)
        async with provider.stream(ask(tokens=5, fault="stall", after=1)) as chunks:
            await anext(chunks)
        await provider.close()
        async with httpx2.AsyncClient() as client:
            seen = (await client.get(base_url.removesuffix("v1") + "observations?closed=1&requests=2")).json()
        assert [request["closed"] for request in seen["requests"]] == [False, True]
        assert seen["requests"][1]["started"] < seen["requests"][1]["ended"]
        assert seen["sockets"] == 0
    finally:
        process.terminate()
        assert await process.wait() == 0
