"""Move clocks apart: each time is compared with the clock that wrote it, so that no job is early, late or stuck.

A clock is moved in two ways: by the key that holds how far the functions put a server's clock ahead, and by
libfaketime, if it is installed, which moves the server's own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import open_client
from shared.store.keys import Keys
from tests.interaction.test_metrics import scrape
from tests.support.clocks import faketime_missing, running_with_clock
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import TIMEOUT_S
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey

MINUTES_S, HOUR_S = 600, 3600

SetClock = Callable[[int], Awaitable[None]]
"""Put a server's clock so many seconds ahead."""


@asynccontextmanager
async def by_key(folder: Path, keys: Keys) -> AsyncIterator[tuple[EmbeddedValkey, SetClock]]:
    """Start a server with functions that return another time."""
    async with running_valkey(folder) as valkey, open_client(valkey.url) as client:

        async def set_clock(ahead_s: int) -> None:
            seconds, _ = await client.time()
            _, last = (await client.get(keys.clock) or b"0 0").split()
            # The last time that the server returned, if it has returned any: its clock never goes back behind it.
            await client.set(keys.clock, f"{ahead_s * 1000} {int(last) or (int(seconds) + ahead_s) * 1000}")

        yield valkey, set_clock


@asynccontextmanager
async def by_faketime(folder: Path, _: Keys) -> AsyncIterator[tuple[EmbeddedValkey, SetClock]]:
    """Start a server and move its own clock."""
    async with running_with_clock(folder) as (valkey, clock):

        async def set_clock(ahead_s: int) -> None:
            clock.set_s(ahead_s)

        yield valkey, set_clock


WAYS = [
    pytest.param(by_key, id="by the key"),
    pytest.param(
        by_faketime,
        id="by libfaketime",
        marks=pytest.mark.skipif(faketime_missing, reason="libfaketime is not installed (a Debian package)"),
    ),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ahead_s", [MINUTES_S, -MINUTES_S])
async def test_servers_ten_minutes_apart_end_no_job_early_and_none_late(
    settings: Settings, tmp_path: Path, way: Any, ahead_s: int
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end() if call.model == "waits" else None)
    async with AsyncExitStack() as stack:
        ahead, set_clock = await stack.enter_async_context(way(tmp_path / "ahead", Keys(settings.key_prefix)))
        other = await stack.enter_async_context(running_valkey(tmp_path / "other"))
        queue, jobs = (ahead, other) if ahead_s > 0 else (other, ahead)
        await set_clock(MINUTES_S)
        urls = {"redis_url": queue.url, "stream_redis_url": jobs.url, "worker_slots": 1}
        apart = settings.model_copy(update=urls)
        system = await stack.enter_async_context(running_system(apart))
        await stack.enter_async_context(running_worker(apart, provider))

        busy = await system.submit(model="busy")
        call = await provider.call_for("busy")
        # Behind the only slot: the reaper sees to deadlines and to readers that never come.
        late = await system.submit(model="late", timeout_s=1)
        unread = await system.submit(model="unread", on_disconnect="cancel", abandon_after_s=1)
        waits = await system.submit(model="waits")
        assert (await system.story(late)).types == ["queued", "expired"]
        assert (await ended(system, unread))["status"] == "cancelled"
        assert (await job(system, waits))["status"] == "queued"
        call.end()
        assert (await system.story(waits)).types == ["queued", "started", "completed"]
        assert (await system.story(busy)).types == ["queued", "started", "completed"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_is_set_back_by_an_hour_delays_no_job_and_ends_none(
    settings: Settings, tmp_path: Path, way: Any
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end() if call.model in ("waits", "new") else None)
    async with AsyncExitStack() as stack:
        valkey, set_clock = await stack.enter_async_context(way(tmp_path / "valkey", Keys(settings.key_prefix)))
        await set_clock(HOUR_S)
        own = settings.model_copy(update={"redis_url": valkey.url, "worker_slots": 1})
        system = await stack.enter_async_context(running_system(own))
        await stack.enter_async_context(running_worker(own, provider))
        busy = await system.submit(model="busy")
        call = await provider.call_for("busy")
        call.say("before ")
        await system.until(busy, EventType.DELTA)
        waits = await system.submit(model="waits")
        late = await system.submit(model="late", timeout_s=2)

        await set_clock(0)

        assert (await scrape(system.client))("lane_waiting_jobs", lane="default") == 2
        assert (await system.story(late)).types == ["queued", "expired"]
        new = await system.submit(model="new")
        assert (await scrape(system.client))("lane_waiting_jobs", lane="default") == 2
        call.say("and after")
        call.end()
        story = await system.story(busy)
        assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
        for job_id in (waits, new):
            assert (await system.story(job_id)).types == ["queued", "started", "completed"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_is_put_forward_by_an_hour_and_set_right_again_ends_no_job(
    settings: Settings, tmp_path: Path, way: Any
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end() if call.model != "busy" else None)
    async with AsyncExitStack() as stack:
        valkey, set_clock = await stack.enter_async_context(way(tmp_path / "valkey", Keys(settings.key_prefix)))
        own = settings.model_copy(update={"redis_url": valkey.url, "worker_slots": 1})
        system = await stack.enter_async_context(running_system(own))
        await stack.enter_async_context(running_worker(own, provider))
        busy = await system.submit(model="busy", timeout_s=300)
        call = await provider.call_for("busy")
        call.say("before ")
        await system.until(busy, EventType.DELTA)
        waits = await system.submit(model="waits", timeout_s=300)
        # Without a viewer for a minute, which is not over either.
        unread = await system.submit(model="unread", on_disconnect="cancel", abandon_after_s=60)

        for ahead_s in (HOUR_S, 0):
            await set_clock(ahead_s)
            # The reaper sees to this one by the clock that was moved.
            late = await system.submit(model="late", timeout_s=1)
            assert (await system.story(late)).types == ["queued", "expired"]
        call.say("and after")
        call.end()

        story = await system.story(busy)
        assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
        for job_id in (waits, unread):
            assert (await system.story(job_id)).types == ["queued", "started", "completed"]


async def job(system: System, job_id: str) -> dict[str, Any]:
    """Read a job without being a viewer of it."""
    answer = await system.client.get(f"/v1/jobs/{job_id}")
    found: dict[str, Any] = answer.json()
    return found


async def ended(system: System, job_id: str) -> dict[str, Any]:
    """Wait for a job's end."""
    async with asyncio.timeout(TIMEOUT_S):
        while (found := await job(system, job_id))["status"] in ("queued", "running"):
            pass
    return found
