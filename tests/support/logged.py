"""Logs of ended jobs for tests of pure code: the frames of a completed answer, and the job's record."""

from typing import Any

from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.job_record import job_from_record
from shared.model.jobs import Job

_FIELDS = {
    "v": "1",
    "kind": "chat",
    "tenant": "alice",
    "lane": "default",
    "model": "m",
    "status": "completed",
    "epoch": "1",
    "seq": "3",
    "attempts": "1",
    "created": "1000",
    "deadline": "21500",
}


def ended_job(job_id: str, **fields: str) -> Job:
    """Return the record of a completed job, with these fields of it."""
    record = {**_FIELDS, "metadata": "{}", **fields}
    return job_from_record(job_id, {name.encode(): value.encode() for name, value in record.items()})


def completed_log(*deltas: dict[str, Any]) -> bytes:
    """Return the frames of an answer with these deltas."""
    events = [(EventType.STARTED, {"attempt": 1}), *((EventType.DELTA, delta) for delta in deltas)]
    events.append((EventType.COMPLETED, {"finish_reason": "stop", "usage": None}))
    frames = (encode_frame(kind, encode_data(data), EventId(1, seq)) for seq, (kind, data) in enumerate(events, 1))
    return b"".join(frames)
