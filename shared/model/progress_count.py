"""The count of a job's progress: the percent of a part, and the reports of one execution of a function.

Pure. Not here: the progress of a job as its caller sees it (job_progress.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

UNFINISHED_MOST: Final = 99
"""The largest percent of a job that has not completed."""
REPORT_EVERY_S: Final = 0.25
"""The least time between two reports of one job's progress."""
_LARGEST: Final = 1e300  # so that the percent of any two numbers is finite or infinite, but no error
MESSAGE_CHARS: Final = 500
"""A longer message of a report is cut."""


def percent_of(done: float, total: float | None) -> int | None:
    """Return the percent of a part, from 0 to 99: only a completed job has 100. None without a usable total."""
    if total is None or total <= 0:
        return None
    return int(min(max(100 * done / total, 0), UNFINISHED_MOST))


def stage_of(attempt: int) -> str:
    """Return the stage of a job while it runs: an attempt after the first one shows that it started again."""
    return "running" if attempt <= 1 else "retrying"


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """One report of an execution. `percent` is never less than in an earlier report of the same execution."""

    epoch: int
    done: float
    total: float | None
    percent: int | None
    stage: str
    message: str

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "ProgressReport":
        """Read the form in a record.

        Raises:
            KeyError: a field is missing.
        """
        return cls(**{name: stored[name] for name in cls.__slots__})

    def as_record(self) -> dict[str, Any]:
        """Return the form in a record."""
        return {name: getattr(self, name) for name in self.__slots__}

    def as_event(self) -> dict[str, Any]:
        """Return the data of a `progress` event."""
        return {name: getattr(self, name) for name in ("done", "total", "percent", "stage", "message")}


class ReportSequence:
    """Make the reports of one execution, in order."""

    def __init__(self, epoch: int, attempt: int) -> None:
        self._epoch = epoch
        self._stage = stage_of(attempt)
        self._percent: int | None = None

    def next(self, done: float, total: float | None, message: str) -> ProgressReport:
        """Make the next report; its percent is at least that of the last one.

        Raises:
            ValueError: a number is not finite, or a value has the wrong type; the sentence names it.
        """
        _check("done", done)
        if total is not None:
            _check("total", total)
        if not isinstance(message, str):
            raise ValueError("message of a progress report must be a text.")
        percent = percent_of(done, total)
        if percent is None or (self._percent is not None and self._percent > percent):
            percent = self._percent
        self._percent = percent
        return ProgressReport(self._epoch, done, total, percent, self._stage, message[:MESSAGE_CHARS])


def _check(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -_LARGEST < value < _LARGEST:
        raise ValueError(f"{name} of a progress report must be a number between -1e300 and 1e300.")
