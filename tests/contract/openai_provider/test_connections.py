"""Test connections to an upstream: how they are made, shared, kept, and reported when they fail."""

import asyncio
import socket
import time
from typing import Any

import anyio
import pytest

from shared.model.errors import ProviderUnreachable
from tests.contract.openai_provider.reading import KEY, finished, read, read_through_target, text
from tests.support.upstream import Upstream, ask, running_upstream
from worker.upstream.providers import http_upstream
from worker.upstream.providers.openai_compatible import OpenAICompatible


@pytest.mark.parametrize("steps", range(2, 8))
async def test_a_process_that_was_frozen_while_it_connected_connects_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(http_upstream, "CONNECT_S", 0.05)
    monkeypatch.setattr(http_upstream, "_LATE_S", 0.05)
    provider = OpenAICompatible("mock", upstream.base_url, KEY)
    reading = asyncio.create_task(read(provider, ask(tokens=1)))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.15)  # noqa: ASYNC251 - nothing runs in a process that is frozen

    assert finished(await reading) == {0: "stop"}
    assert len(upstream.requests) == 1
    await provider.close()


async def test_one_connection_serves_one_answer_after_the_other(provider: OpenAICompatible, upstream: Upstream) -> None:
    for _ in range(3):
        await read_through_target(provider, ask(tokens=5))
    assert upstream.connections == 1


async def test_hundreds_of_streams_run_at_once(provider: OpenAICompatible, upstream: Upstream) -> None:
    streams = 300
    spoke = asyncio.Semaphore(0)

    async def read_until_cancelled() -> None:
        async with provider.stream(ask(tokens=5, fault="stall", after=1)) as chunks:
            async for _ in chunks:
                spoke.release()

    async with asyncio.timeout(30), anyio.create_task_group() as tasks:
        for _ in range(streams):
            tasks.start_soon(read_until_cancelled)
        for _ in range(2 * streams):  # a role's chunk and a token's
            await spoke.acquire()
        assert upstream.sockets == streams
        tasks.cancel_scope.cancel()
    await upstream.until(lambda: upstream.closed == streams and not upstream.sockets)


WELL = b'data: {"choices":[{"index":0,"delta":{"content":"Well."},"finish_reason":"stop"}]}\n\n'


async def test_a_kept_connection_that_the_other_side_has_closed_is_not_its_failure() -> None:
    """Close a connection after an answer, without notice: a request that could not be written to it was not made."""
    answered = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (WELL, b"data: [DONE]\n\n"))
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        asked += 1
        writer.write(answered + b"0\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        provider = OpenAICompatible("mock", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(20):
            assert text(await read(provider, ask())) == "Well."
        await provider.close()
    assert asked == 20


@pytest.mark.parametrize(("fault", "after"), [("reset", 0), ("cut", 0), ("reset", 3), ("cut", 3)])
async def test_a_broken_connection_is_reported_as_unreachable(
    provider: OpenAICompatible, fault: str, after: int
) -> None:
    with pytest.raises(ProviderUnreachable, match=r"^The connection to the provider mock failed\.$"):
        await read(provider, ask(tokens=5, fault=fault, after=after))


async def test_an_upstream_that_refuses_connections_is_unreachable(upstream: Upstream) -> None:
    async with running_upstream() as gone:
        provider = OpenAICompatible("mock", gone.base_url)
    with pytest.raises(ProviderUnreachable, match=r"^The connection to the provider mock failed\.$"):
        await read(provider, ask())
    await provider.close()


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    provider = OpenAICompatible("mock", "http://upstream.invalid/v1")
    with pytest.raises(ProviderUnreachable):
        await read(provider, ask())
    await provider.close()


async def test_an_upstream_none_of_whose_addresses_answers_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_upstream, "CONNECT_S", 0.05)
    monkeypatch.setattr(http_upstream, "_LATE_S", 0.01)
    with socket.socket() as hung:
        # A full backlog: the kernel answers no connection.
        hung.bind(("127.0.0.1", 0))
        hung.listen(0)
        port = hung.getsockname()[1]
        filling = [socket.socket() for _ in range(3)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        provider = OpenAICompatible("mock", f"http://somewhere.test:{port}/v1")
        loop = asyncio.get_running_loop()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 3

        async def resolve(*_: Any, **__: Any) -> Any:
            return found

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        with pytest.raises(ProviderUnreachable):
            await read(provider, ask(tokens=1))
        await provider.close()
        for each in filling:
            each.close()
