"""Run a reaper whose clock a test moves, and that records the jobs it would end.

Not here: the jobs that it finds (left_jobs.py).
"""

from shared.model.errors import TailraceError
from shared.model.lanes import DEFAULT_LANE
from tests.support.completion import completion_steps_of
from tests.support.core import Core
from worker.dispatch.reaper import Reaper


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        raise NotImplementedError("Redis tells the time of day.")


class Reaping:
    """A reaper that records the jobs it would end, and may find that it can't; over `odd` it fails."""

    def __init__(
        self, core: Core, *, lease_s: float = 10.0, wait_s: float = 0.0, ends: bool = True, odd: str | None = None
    ) -> None:
        self._ends, self._odd = ends, odd
        self.ended: list[tuple[str, str]] = []
        self.served: list[str] = []
        self.time = Time()
        lanes = (DEFAULT_LANE,)
        completion_steps = completion_steps_of(core)
        parts = (core.store, core.queue, core.waiting, completion_steps, self.time, self._end, self.served.append)
        reaper = Reaper(*parts, lanes=lanes, lease_s=lease_s, wait_s=wait_s)
        self.run, self.sweep = reaper.run, reaper.sweep

    async def _end(self, job_id: str, error: TailraceError) -> bool:
        if job_id == self._odd:
            raise RuntimeError("There is something about this job.")
        self.ended.append((job_id, error.code))
        return self._ends
