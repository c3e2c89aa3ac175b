"""Run a hub whose timers the test sets, and read from it.

Not here: the jobs' logs (tests/support/log_writer.py).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.streams.hub import Hub
from gateway.streams.reader import HEARTBEAT, Reader
from shared.config.settings import Settings
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.store.client import open_client
from shared.store.keys import Keys
from shared.store.replay_log import ReplayLog
from tests.support.short_settings import redis_url_of

# Longer than any test takes.
NEVER_S = 3600.0
TIMEOUT_S = 5.0


@asynccontextmanager
async def running_hub(
    settings: Settings, *, log_type: type[ReplayLog] = ReplayLog, metrics: Metrics | None = None, **times: float
) -> AsyncIterator[Hub]:
    """Run a hub. Its timers cause nothing, except those that the test sets."""
    names = ("heartbeat_s", "tail_check_s", "redis_patience_s", "send_timeout_s")
    options: dict[str, Any] = {**dict.fromkeys(names, NEVER_S), **times, "metrics": metrics}
    feed = open_client(redis_url_of(settings), connections=1, command_timeout_s=None)
    client = open_client(redis_url_of(settings))
    keys = Keys(settings.key_prefix)
    log, clock = log_type(client, keys), SystemClock()
    hub = Hub(feed, log, keys, clock, reader_bytes=settings.reader_bytes, **options)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()
        await feed.aclose()


async def read(reader: Reader, *, until: bytes = b"", least: int = 0) -> bytes:
    """Return the reader's bytes, without heartbeats: to the end, or until these bytes are among them, or so many."""
    got = b""
    async with asyncio.timeout(TIMEOUT_S):
        while chunk := await reader.chunk():
            got += b"" if chunk is HEARTBEAT else chunk
            if (until and until in got) or (least and len(got) >= least):
                break
    return got
