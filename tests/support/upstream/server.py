"""A server of the upstream: in the process of a test, or in one of its own."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress

from tests.support.unread import Unread
from tests.support.upstream.connection import Connection
from tests.support.upstream.manner import Manner
from tests.support.upstream.state import Upstream


@asynccontextmanager
async def running_upstream(
    port: int = 0, *, key: str | None = None, manner: Manner | None = None
) -> AsyncIterator[Upstream]:
    """An upstream on 127.0.0.1, in this process and event loop."""
    upstream = Upstream("", key, manner or Manner())
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(upstream, connections), "127.0.0.1", port, backlog=2048)
    upstream.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        with _unread(upstream.manner) as upstream.unread:
            yield upstream
    finally:
        server.close()
        for connection in list(connections):
            connection.transport.abort()
        await upstream.until(lambda: not connections)


def _unread(manner: Manner) -> AbstractContextManager[Unread | None]:
    return nullcontext() if manner.ahead is None else Unread()


async def serve(*, manner: Manner | None = None, port: int = 0, key: str | None = None, seconds: float) -> None:
    """Be a process of its own until a signal comes, for at most so long; says its base URL on stdout."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_upstream(port, key=key, manner=manner) as upstream:
        print(upstream.base_url, flush=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
