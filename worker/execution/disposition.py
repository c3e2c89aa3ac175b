"""The states in which a run leaves its job.

Not here: the action on each of them (runs.py).
"""

from enum import Enum

from shared.model.ended_job import EndedJob


class Disposition(Enum):
    """The state in which a run leaves its job."""

    ENDED = "it has ended"
    ELSEWHERE = "another worker has it, or will"
    UNKNOWN = "it has no record"


Outcome = Disposition | EndedJob | float
"""A job's disposition, its record if it completed here, or the seconds after which any worker may take it."""


def disposition(ended: bool) -> Disposition:
    """Return the disposition of a job that was run or ended here."""
    return Disposition.ENDED if ended else Disposition.ELSEWHERE
