"""Messages of the control channel, which reaches all workers: a job is cancelled or has ended, or a permit is free.

Pure. The store's functions publish the messages, and a worker parses them. A message can be lost, so a worker also
checks the records (`Executions.beat`) and polls. Workers of other versions read the same messages.
Not here: the connection (shared/store/live_feed.py), and the reaction (worker/app.py).
"""

from dataclasses import dataclass
from typing import Final

from shared.model.jobs import is_job_id

_PERMIT: Final = "place:"
_ENDED: Final = "ended:"


@dataclass(frozen=True, slots=True)
class CancelJob:
    """The worker that runs this job has to end it."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PermitReleased:
    """A waiter may acquire a concurrency permit of this provider."""

    provider: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A gateway ended this job: a worker has to run its completion steps."""

    job_id: str


ControlMessage = CancelJob | PermitReleased | JobEnded


def encode_message(message: ControlMessage) -> bytes:
    """Encode a message for the channel."""
    if isinstance(message, PermitReleased):
        return f"{_PERMIT}{message.provider}".encode()
    if isinstance(message, JobEnded):
        return f"{_ENDED}{message.job_id}".encode()
    return message.job_id.encode()


def parse_message(raw: bytes) -> ControlMessage | None:
    """Parse a message; None if this version does not know it."""
    text = raw.decode("utf-8", "replace")
    if text.startswith(_PERMIT):
        return PermitReleased(text.removeprefix(_PERMIT))
    job_id = text.removeprefix(_ENDED)
    if not is_job_id(job_id):
        return None
    return CancelJob(job_id) if job_id == text else JobEnded(job_id)
