"""The record of a job that has ended, as the completion steps get it.

It has the fields that steps need, also of a record that this version can't read otherwise.
Pure. Not here: the whole record (job_record.py), and the steps (worker/execution).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from shared.model.jobs import Job, code_in
from shared.model.lifecycle import State

_TRY: Final = b"try:"


@dataclass(frozen=True, slots=True)
class JobTimes:
    """The times of a job by the clock of its server (ms); 0 if there is none, or it is not known.

    `started_ms` is when its first execution began.
    """

    created_ms: int = 0
    started_ms: int = 0
    first_token_ms: int = 0
    ended_ms: int = 0

    @classmethod
    def by_deadline(cls, job: Job, started_ms: int, left_s: float, first_token_left_s: float | None) -> Self:
        """Return the times of a job that has just ended, from the seconds that were left until its deadline.

        `started_ms` counts if the record does not have the start of an earlier execution.
        """
        return cls(
            created_ms=job.created_ms,
            started_ms=job.started_ms or started_ms,
            first_token_ms=0 if first_token_left_s is None else job.deadline_ms - int(first_token_left_s * 1000),
            ended_ms=job.deadline_ms - int(left_s * 1000),
        )

    @property
    def waited_s(self) -> float | None:
        """Return the time until its first execution began, or until it ended without one."""
        return _seconds(self.created_ms, self.started_ms or self.ended_ms)

    @property
    def first_token_s(self) -> float | None:
        """Return the time from its creation to its first token."""
        return _seconds(self.created_ms, self.first_token_ms)

    @property
    def ran_s(self) -> float | None:
        """Return the time from the beginning of its first execution to its end."""
        return _seconds(self.started_ms, self.ended_ms)


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job with its terminal event. `usage` is the event's; None if the job has cost no tokens.

    `error_code` is empty if the job completed. `attempts` are those that the job was charged for. `provider` is that of
    the last execution; empty if none has begun. `request_id` names the request that submitted the job.
    `webhook` is a `JobWebhook` as it is stored, or empty. With `has_children`, jobs that come after it have registered.
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
    provider: str = ""
    request_id: str = ""
    times: JobTimes = JobTimes()
    webhook: bytes = b""
    has_children: bool = False

    @classmethod
    def completed(
        cls,
        job: Job,
        attempts: int,
        usage: Mapping[str, Any] | None,
        provider: str,
        times: JobTimes,
        *,
        has_children: bool,
    ) -> Self:
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
            provider=provider,
            request_id=job.request_id,
            times=times,
            webhook=job.webhook,
            has_children=has_children,
        )

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[bytes, bytes]) -> Self:
        """Read the fields of an ended job's record; a field that is missing or broken is empty."""
        outcome = _outcome(record)
        usage = outcome.get("usage")
        return cls(
            id=job_id,
            tenant=_text(record, b"tenant"),
            lane=_text(record, b"lane"),
            kind=_text(record, b"kind"),
            model=_text(record, b"model"),
            status=State(_text(record, b"status")),
            attempts=_number(record, b"attempts"),
            usage=usage if isinstance(usage, Mapping) else None,
            error_code=code_in(outcome),
            provider=_provider(record),
            request_id=_text(record, b"request_id"),
            times=JobTimes(
                created_ms=_number(record, b"created"),
                started_ms=_number(record, b"started"),
                ended_ms=_number(record, b"ended"),
            ),
            webhook=record.get(b"webhook", b""),
            has_children=b"children" in record,
        )


def _seconds(since_ms: int, until_ms: int) -> float | None:
    return round(max(until_ms - since_ms, 0) / 1000, 3) if since_ms and until_ms else None


def _text(record: Mapping[bytes, bytes], field: bytes) -> str:
    return record.get(field, b"").decode("utf-8", "replace")


def _number(record: Mapping[bytes, bytes], field: bytes) -> int:
    text = _text(record, field)
    return int(text) if text.isdecimal() else 0


def _outcome(record: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    return _mapping(record.get(b"outcome", b"{}"))


def _provider(record: Mapping[bytes, bytes]) -> str:
    """Return the provider of the latest execution."""
    epochs = [int(name[len(_TRY) :]) for name in record if name.startswith(_TRY) and name[len(_TRY) :].isdigit()]
    provider = _mapping(record[_TRY + b"%d" % max(epochs)]).get("provider") if epochs else ""
    return provider if isinstance(provider, str) else ""


def _mapping(raw: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}
