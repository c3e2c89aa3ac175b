"""Messages of the control channel, which reaches all workers: a job is cancelled, or a permit is free.

Pure. The store's functions publish the messages, and a worker parses them. A message can be lost, so a worker also
checks the records (`Store.beat`) and polls. Workers of other versions read the same messages.
Not here: the connection (live_feed.py), and the reaction (worker/app.py).
"""

from dataclasses import dataclass
from typing import Final

from shared.model.jobs import is_job_id

_PERMIT: Final = "place:"


@dataclass(frozen=True, slots=True)
class CancelJob:
    """The worker that runs this job has to end it."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PermitReleased:
    """A waiter may acquire a concurrency permit of this provider."""

    provider: str


ControlMessage = CancelJob | PermitReleased


def encode_message(message: ControlMessage) -> bytes:
    """Encode a message for the channel."""
    if isinstance(message, CancelJob):
        return message.job_id.encode()
    return f"{_PERMIT}{message.provider}".encode()


def parse_message(raw: bytes) -> ControlMessage | None:
    """Parse a message; None if this version does not know it."""
    text = raw.decode("utf-8", "replace")
    if text.startswith(_PERMIT):
        return PermitReleased(text.removeprefix(_PERMIT))
    return CancelJob(text) if is_job_id(text) else None
