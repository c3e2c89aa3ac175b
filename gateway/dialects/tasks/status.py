"""Name the status of a job as a caller that polls knows it. Pure.

Not here: the rest of a task (task.py).
"""

from enum import StrEnum

from shared.model.jobs import Job
from shared.model.lifecycle import State


class TaskStatus(StrEnum):
    """The status of a task.

    A task is STARTED once a worker has it, and RUNNING once there is a part of its result. One that failed or expired
    with a part of its result is a PARTIAL_SUCCESS.
    """

    PENDING = "PENDING"
    STARTED = "STARTED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILURE = "FAILURE"
    CANCELLED = "CANCELLED"


def status_of(job: Job, *, partial: bool) -> TaskStatus:
    """Return the status of a job; `partial` says that there is a part of its result."""
    match job.status:
        case State.WAITING | State.QUEUED:
            return TaskStatus.PENDING
        case State.COMPLETED:
            return TaskStatus.SUCCESS
        case State.CANCELLED:
            return TaskStatus.CANCELLED
        case State.FAILED | State.EXPIRED:
            return TaskStatus.PARTIAL_SUCCESS if partial else TaskStatus.FAILURE
        case _:
            return TaskStatus.RUNNING if partial else TaskStatus.STARTED
