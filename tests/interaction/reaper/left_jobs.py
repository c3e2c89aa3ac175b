"""Put a job into the state in which a reaper finds it: out of reach, left by its worker, or over."""

from shared.store.wire.answers import Written
from tests.support.core import frames_of
from tests.support.system import System

LONG_S = 60.0


async def out_of_reach(system: System, job_id: str) -> None:
    """Let no worker take the job."""
    await system.core.client.zadd(system.lane, {job_id: 1e15}, xx=True)


async def left_behind(system: System, job_id: str, *words: str) -> None:
    """Let the job run in a worker that died, or is as silent: it showed these words."""
    execution = await system.core.begin(job_id, "silent.1")
    assert await system.core.append(frames_of(execution, 2, *words)) == [Written()]
    await out_of_reach(system, job_id)


async def over(system: System, job_id: str) -> None:
    """Let the job's time have been over for long."""
    await system.write(job_id, deadline=1)
