"""Encode and validate the messages of the queue, in arq's form.

Pure. Not here: storing them (shared/store/queue.py), and reading them with arq (worker/dispatch/arq_adapter.py).
"""

import json
from typing import Any

from shared.model.jobs import created_ms

ARQ_FUNCTION = "run_job"
"""The name under which every lane worker registers its one arq function."""


def serialize(message: dict[str, Any]) -> bytes:
    """Encode a message as JSON; with pickle, a writer to Redis could run code here."""
    return json.dumps(message, separators=(",", ":")).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """Decode a message without validating it."""
    message: dict[str, Any] = json.loads(raw)
    return message


def message_of(job_id: str) -> dict[str, Any]:
    """Build the only valid message of a job; it holds the job's id alone."""
    return {"t": None, "f": ARQ_FUNCTION, "a": [job_id], "k": {}, "et": created_ms(job_id)}


def read_message(raw: bytes) -> dict[str, Any]:
    """Decode and validate a message.

    Raises:
        ValueError, TypeError, LookupError: it is not a message that this queue writes.
    """
    # Accepting a message that arq then fails on would leave the job without an end.
    message = deserialize(raw)
    (job_id,) = message["a"]
    if message != message_of(job_id):
        raise ValueError("The message is not one that this queue writes.")
    return message
