"""Show a job as a task, for a caller that polls. Pure.

Not here: HTTP, and the reading of a result.
"""

from typing import Any, Final

from gateway.dialects.embeddings import EmbeddingList
from gateway.dialects.tasks.status import TaskStatus, status_of
from shared.model.events import EventId, encode_data
from shared.model.jobs import Job
from shared.model.lifecycle import State

_STARTED: Final = EventId(1, 1)
"""The event with which the first execution of a job begins; the parts of its answer follow."""


def has_part(job: Job, *, streams_text: bool) -> bool:
    """Return whether there may be a part of the job's result. Some kinds of jobs stream text."""
    if streams_text:
        return job.last > _STARTED
    return job.embedded is not None and job.embedded.done > 0


def show_task(job: Job, address: str, *, partial: bool) -> dict[str, Any]:
    """Show a job as a task at this address, without its result; `partial` says that there is a part of the result."""
    status = status_of(job, partial=partial)
    return {
        "task_id": job.id,
        "status": status.value,
        "kind": job.kind,
        "model": job.model or None,
        "progress": _progress(job, status),
        "error": job.outcome.get("error"),
        "links": {"self": address, "cancel": f"{address}/cancel"},
    }


class NestedList:
    """Write a task that results in a list of embeddings, piece by piece; see `EmbeddingList`."""

    def __init__(self, task: dict[str, Any], listed: EmbeddingList) -> None:
        self._listed = listed
        self.opening = encode_data(task).removesuffix(b"}") + b',"result":' + listed.opening
        self.closing = listed.closing + b"}"

    def items(self, page: bytes) -> bytes:
        """Write the embeddings of this page."""
        return self._listed.items(page)


def _progress(job: Job, status: TaskStatus) -> dict[str, Any]:
    made = job.embedded
    message = f"{made.done} of {made.total} inputs" if made else None
    percent = None
    if status is TaskStatus.SUCCESS:
        percent = 100
    elif made:
        percent = min(100 * made.done // made.total, 99)  # 100 is the end
    elif job.status is State.QUEUED:
        percent = 0
    return {"percent": percent, "stage": job.status.value, "message": message}
