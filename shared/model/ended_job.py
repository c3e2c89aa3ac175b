"""The record of a job that has ended, as the completion steps get it.

It has the fields that steps need, also of a record that this version can't read otherwise.
Pure. Not here: the whole record (job_record.py), and the steps (worker/execution).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.model.jobs import Job, code_in
from shared.model.lifecycle import State


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job with its terminal event. `usage` is the event's; None if the job has cost no tokens.

    `error_code` is empty if the job completed. `attempts` are those that the job was charged for.
    """

    id: str
    tenant: str
    lane: str
    kind: str
    model: str
    status: State
    attempts: int
    usage: Mapping[str, Any] | None
    error_code: str

    @classmethod
    def completed(cls, job: Job, attempts: int, usage: Mapping[str, Any] | None) -> Self:
        """Return the record of a job that has just completed, from its record before that."""
        return cls(
            id=job.id,
            tenant=job.tenant,
            lane=job.lane,
            kind=job.kind,
            model=job.model,
            status=State.COMPLETED,
            attempts=attempts,
            usage=usage,
            error_code="",
        )

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[bytes, bytes]) -> Self:
        """Read the fields of an ended job's record; a field that is missing or broken is empty."""
        outcome = _outcome(record)
        attempts, usage = _text(record, b"attempts"), outcome.get("usage")
        return cls(
            id=job_id,
            tenant=_text(record, b"tenant"),
            lane=_text(record, b"lane"),
            kind=_text(record, b"kind"),
            model=_text(record, b"model"),
            status=State(_text(record, b"status")),
            attempts=int(attempts) if attempts.isdecimal() else 0,
            usage=usage if isinstance(usage, Mapping) else None,
            error_code=code_in(outcome),
        )


def _text(record: Mapping[bytes, bytes], field: bytes) -> str:
    return record.get(field, b"").decode("utf-8", "replace")


def _outcome(record: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    try:
        outcome = json.loads(record.get(b"outcome", b"{}"))
    except ValueError:
        return {}
    return outcome if isinstance(outcome, Mapping) else {}
