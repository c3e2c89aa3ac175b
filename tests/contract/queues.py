"""Steps of the queue on a core, for the tests of this folder."""

import asyncio
from typing import Any

from shared.model.jobs import JobSpec
from shared.store.queue_admission import Admitted
from shared.store.wire.answers import RetryLater, Taken
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, make_spec

LANE = "default"
LEASE_S = 10.0


async def admit(core: Core, spec: JobSpec, max_depth: int = 1_000) -> Admitted:
    return await core.queue_admission.admit(spec, max_depth=max_depth, retention_s=RETENTION_S)


async def enqueue(core: Core, **changes: Any) -> JobSpec:
    """Admit a job and make it ready to be taken."""
    spec = make_spec(**changes)
    await admit(core, spec)
    assert await core.queue_admission.release(spec.id, spec.lane)
    return spec


async def take(core: Core, owner: str = "w.1", lease_s: float = LEASE_S, lanes: tuple[str, ...] = (LANE,)) -> Taken:
    found = await core.queue.take(lanes, owner, lease_s)
    assert isinstance(found, Taken), found
    return found


async def take_when_due(core: Core, owner: str, lease_s: float = LEASE_S) -> Taken:
    """Wait for a job as a worker does: for a wake-up, or for the time that `take` says."""
    async with asyncio.timeout(TIMEOUT_S):
        while not isinstance(found := await core.queue.take([LANE], owner, lease_s), Taken):
            await core.queue.wait_for_wake_up(
                core.client, [LANE], found.after_s if isinstance(found, RetryLater) else 1.0
            )
    return found


async def move(core: Core, job_id: str, by_ms: int, lane: str = LANE) -> None:
    """Let a job be due earlier or later than it was."""
    await core.client.zincrby(core.keys.lane(lane), by_ms, job_id)


async def wait_of(core: Core, owner: str, lanes: tuple[str, ...] = (LANE,)) -> float:
    """Return the time (s) until the next job is due, if none is ready."""
    found = await core.queue.take(lanes, owner, LEASE_S)
    assert isinstance(found, RetryLater), found
    return found.after_s


async def wake_ups(core: Core, lane: str = LANE) -> int:
    return int(await core.client.llen(core.keys.wake_ups(lane)))  # type: ignore[misc]


async def server_ms(core: Core) -> int:
    seconds, micros = await core.client.time()
    return int(seconds) * 1000 + int(micros) // 1000
