"""The broken jobs that this process has logged already, so that each is logged once. Not here: the log lines."""

from collections import OrderedDict

from shared.model.bounds import REPORTED_JOBS


class ReportedJobs:
    """A bounded set of job ids; the oldest are forgotten first."""

    def __init__(self, most: int = REPORTED_JOBS) -> None:
        self._most = most
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, job_id: str) -> bool:
        """Add a job; return whether it is new."""
        if job_id in self._seen:
            return False
        self._seen[job_id] = None
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return True
