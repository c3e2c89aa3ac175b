"""The event that a webhook reports: its type and its body, which names the job and has none of its content.

Pure. Not here: the signature of the body (signature.py), and the choice of receivers.
"""

import json
from typing import Final

from shared.model.lifecycle import State

JOB_EVENTS: Final = ("job.completed", "job.failed", "job.cancelled", "job.expired")
"""The events of jobs of all faces but OpenAI's Responses."""
RESPONSE_EVENTS: Final = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
"""The events of OpenAI's Responses."""

# A response that a limit or a filter has cut off is incomplete; OpenAI has no event for a job whose time was up.
_CUT_OFF: Final = ("length", "content_filter")


def job_event(status: State) -> str:
    """Return the type of the event for a job that has ended in this status."""
    return f"job.{status.value}"


def response_event(status: State, finish_reason: str = "") -> str:
    """Return the type of the event for a response whose job has ended in this status."""
    if status is State.COMPLETED and finish_reason in _CUT_OFF:
        return "response.incomplete"
    return "response.failed" if status is State.EXPIRED else f"response.{status.value}"


def event_body(event_id: str, event_type: str, created_s: int, object_id: str) -> bytes:
    """Return the body in the form of OpenAI's events. All attempts send these bytes."""
    event = {
        "id": event_id,
        "object": "event",
        "created_at": created_s,
        "type": event_type,
        "data": {"id": object_id},
    }
    return json.dumps(event, separators=(",", ":")).encode()
