"""Further fields of calls of jobs that were looked up lately. Pure. Not here: how they are found (call_extras.py)."""

from collections import OrderedDict
from collections.abc import Mapping

from gateway.dialects.call_extras import Extras
from shared.bounds import EXTRAS_BYTES, EXTRAS_JOBS
from shared.events import encode_data

ExtrasByCall = Mapping[str, Extras]


class RecentExtras:
    """A bounded cache: an agent sends its whole history with each step, but the log of an ended job never changes."""

    def __init__(self, most_jobs: int = EXTRAS_JOBS, most_bytes: int = EXTRAS_BYTES) -> None:
        self._most_jobs = most_jobs
        self._most_bytes = most_bytes
        self._jobs: OrderedDict[str, tuple[ExtrasByCall, int]] = OrderedDict()
        self._bytes = 0

    def get(self, job_id: str) -> ExtrasByCall | None:
        """Return the fields of a job's calls; None if they are not known."""
        if job_id not in self._jobs:
            return None
        self._jobs.move_to_end(job_id)
        return self._jobs[job_id][0]

    def put(self, job_id: str, extras: ExtrasByCall) -> None:
        """Remember the fields of an ended job's calls, and forget those that were used longest ago."""
        size = len(encode_data(extras))
        self._bytes += size - self._jobs.pop(job_id, ((), 0))[1]
        self._jobs[job_id] = extras, size
        while len(self._jobs) > self._most_jobs or self._bytes > self._most_bytes:
            _, (_, forgotten) = self._jobs.popitem(last=False)
            self._bytes -= forgotten
