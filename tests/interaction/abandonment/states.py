"""Wait for the states of a job that a test of abandonment waits for, and age its viewers."""

import asyncio
from typing import Any

from shared.model.jobs import VIEWER_LEASE_S, Abandonment, OnDisconnect
from tests.interaction.abandonment.routes import the_job
from tests.support.client import TIMEOUT_S
from tests.support.system import System
from tests.support.upstream import Upstream

LONG_S = 60.0
# A receive buffer that is full at once.
SMALL = 4096


async def speaks(system: System) -> None:
    """Wait until the only job has said something."""
    job_id = await the_job(system)
    async with asyncio.timeout(TIMEOUT_S):
        while (await system.core.tails(job_id))[0].seq < 5:
            pass


async def is_given_up(system: System, upstream: Upstream) -> dict[str, Any]:
    """Wait until the upstream's socket is closed, and the job has its end; that end."""
    await upstream.until(lambda: upstream.closed == 1 and upstream.sockets == 0)
    job_id = await the_job(system)
    await system.over(job_id)
    story = await system.story(job_id)
    assert (story.types[-1], story.code) == ("cancelled", "abandoned")
    assert await system.queue_keys(job_id) == []
    return story.end


async def is_blocked(system: System) -> None:
    """Wait until the only reader takes nothing more."""
    (reader,) = system.gateway.services.hub.readers
    since: list[float | None] = []
    # The same send, at many checks in a row.
    async with asyncio.timeout(2 * TIMEOUT_S):
        while len(since) < 100 or None in since or len(set(since)) > 1:
            since = [*since[-99:], reader.sending_since]
            await asyncio.sleep(0.001)


async def viewed_by(system: System, job_id: str, viewers: int) -> dict[str, Any]:
    """Wait until the job is shown with so many viewers; how it is shown."""
    async with asyncio.timeout(TIMEOUT_S):
        while (shown := (await system.client.get(f"/v1/jobs/{job_id}")).json())["viewers"] != viewers:
            pass
    return dict(shown)


async def others_are_given_up(system: System) -> None:
    """Wait until the reaper has given up another job, which was due after all that is due now."""
    # It is in no lane: a worker that took it first would have the upstream count one more stream that was closed.
    other = await system.core.queued(abandonment=Abandonment(OnDisconnect.CANCEL, first_viewer_timeout_s=60.0))
    await system.write(other, abandon_at=1)
    await system.core.client.zadd(system.core.keys.active, {other: 0})
    await system.over(other)


async def lease_passes(system: System, job_id: str) -> None:
    """Age the viewers' signs and the abandonment's time by one lease; the gateway does not renew them."""
    keys, age_ms = system.core.keys.job(job_id), int(VIEWER_LEASE_S * 1000)
    for gateway in await system.core.client.zrange(keys.viewers, 0, -1):
        await system.core.client.zincrby(keys.viewers, -age_ms, gateway)
    await system.core.client.hincrby(keys.record, "abandon_at", -age_ms)  # type: ignore[misc]
    await system.check_next(job_id)
