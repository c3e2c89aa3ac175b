"""Show a job as a task, for a caller that polls. Pure.

Not here: HTTP, and the reading of a result.
"""

from typing import Any, Final

from gateway.dialects.embeddings import EmbeddingList
from gateway.dialects.tasks.status import status_of
from shared.model.events import EventId, encode_data
from shared.model.job_progress import progress_of
from shared.model.jobs import Job

_STARTED: Final = EventId(1, 1)
"""The event with which the first execution of a job begins; the parts of its answer follow."""


def has_part(job: Job, *, streams_text: bool) -> bool:
    """Return whether there may be a part of the job's result. Some kinds of jobs stream text."""
    if streams_text:
        return job.last > _STARTED
    return job.embedded is not None and job.embedded.done > 0


def show_task(job: Job, address: str, *, partial: bool, streams_text: bool) -> dict[str, Any]:
    """Show a job as a task at this address, without its result; `partial` says that there is a part of the result.

    Some kinds of jobs stream text: their progress counts tokens.
    """
    status = status_of(job, partial=partial)
    return {
        "task_id": job.id,
        "status": status.value,
        "kind": job.kind,
        "model": job.model or None,
        "progress": progress_of(job, streams_text=streams_text).as_dict(),
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
