"""Read a job's record: turn its fields in Redis into a `Job`.

Not here: the job itself (jobs.py), and the writing of a record, which the functions in shared/store/functions do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from shared.model.errors import BrokenJob
from shared.model.events import EventId, encode_data
from shared.model.jobs import Embedded, ExecutionRecord, Job, OnDisconnect, Progress
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import Parents
from shared.model.progress_count import ProgressReport
from shared.model.routes import OnStreamFailure

RECORD_VERSION: Final = 1
"""The version in every record; a reader that finds a newer one ends the job as `broken_job` and continues."""

# The prefixes of a record's fields for its executions, each followed by an epoch.
_TRY, _END = b"try:", b"end:"

# Fields of `Progress` with another name in the record: versions up to 0.2.0 read and write it, in a rolling deploy too.
_STORED_NAMES = {
    "target": "link",
    "excluded": "barred",
    "cannot_continue": "unable",
    "discarded_tokens": "wasted",
}


def job_from_record(job_id: str, record: Mapping[bytes, bytes]) -> Job:
    """Read a record's fields.

    Raises:
        BrokenJob: a newer version wrote it, or a field is not what it should be.
    """
    version = record.get(b"v", b"")
    if version != b"%d" % RECORD_VERSION:
        raise BrokenJob(f"The job's record has version {version.decode('ascii', 'replace')!r}, not {RECORD_VERSION}.")
    try:
        return Job(
            id=job_id,
            kind=record[b"kind"].decode(),
            tenant=record[b"tenant"].decode(),
            lane=record[b"lane"].decode(),
            model=record[b"model"].decode(),
            status=State(record[b"status"].decode()),
            last=EventId(int(record[b"epoch"]), int(record[b"seq"])),
            attempts=int(record[b"attempts"]),
            created_ms=int(record[b"created"]),
            started_ms=int(record.get(b"started", 0)),
            ended_ms=int(record.get(b"ended", 0)),
            deadline_ms=int(record[b"deadline"]),
            abandon_ms=int(record.get(b"abandon_at", 0)),
            on_disconnect=OnDisconnect(record.get(b"on_disconnect", b"continue").decode()),
            metadata=json.loads(record.get(b"metadata", b"{}")),
            outcome=json.loads(record.get(b"outcome", b"{}")),
            embedded=embedded_from(record.get(b"embedded")),
            hidden=b"hidden" in record,
            on_stream_failure=_on_stream_failure(record.get(b"on_stream_failure", b"")),
            append_only_reader=bool(record.get(b"one_way")),
            owner=record.get(b"owner", b"").decode(),
            progress=_progress(record.get(b"progress", b"{}")),
            report=_report(record),
            executions=_executions(record),
            requeued_from=_job_id(record, b"requeued_from"),
            requeued_as=_job_id(record, b"requeued_as"),
            brief=b"keep" in record,
            dismissed=b"dismissed" in record,
            request_id=record.get(b"request_id", b"").decode(),
            webhook=record.get(b"webhook", b""),
            parents=Parents.from_record(record),
            awaited=tuple(record.get(b"awaited", b"").decode().split()),
            released_ms=int(record.get(b"released", 0)),
            has_children=b"children" in record,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenJob(f"The job's record can't be read: {error!r}.") from error


def embedded_from(raw: bytes | None) -> Embedded | None:
    """Read a record's field for the stored result; None if the record has none.

    Raises:
        ValueError, TypeError: it does not have the form of `Embedded.as_dict`.
    """
    return None if raw is None else Embedded(**_known(json.loads(raw)))


def _on_stream_failure(raw: bytes) -> OnStreamFailure | None:
    return OnStreamFailure(raw.decode()) if raw else None


def _job_id(record: Mapping[bytes, bytes], name: bytes) -> str | None:
    return record[name].decode() if name in record else None


def progress_json(progress: Progress) -> bytes:
    """Encode a job's progress for its record."""
    return encode_data({_STORED_NAMES.get(name, name): value for name, value in asdict(progress).items()})


def _progress(raw: bytes) -> Progress:
    stored = json.loads(raw)
    names = {each.name: _STORED_NAMES.get(each.name, each.name) for each in fields(Progress)}
    # In a rolling deploy, a newer version may have written more fields, and an older one less.
    return Progress(**{name: _frozen(stored[key]) for name, key in names.items() if key in stored})


def _report(record: Mapping[bytes, bytes]) -> ProgressReport | None:
    """Read the last report; one of a former execution counts only if the job has ended."""
    if b"report" not in record:
        return None
    report = ProgressReport.read(json.loads(record[b"report"]))
    current = report.epoch == int(record[b"epoch"]) or State(record[b"status"].decode()) in TERMINAL
    return report if current else None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _known(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows: in a rolling deploy, a newer one may have written more."""
    return {each.name: stored[each.name] for each in fields(Embedded) if each.name in stored}


def _executions(record: Mapping[bytes, bytes]) -> tuple[ExecutionRecord, ...]:
    epochs = sorted(int(name.removeprefix(_TRY)) for name in record if name.startswith(_TRY))
    return tuple(_execution(epoch, record[_TRY + b"%d" % epoch], record.get(_END + b"%d" % epoch)) for epoch in epochs)


def _execution(epoch: int, begin: bytes, end: bytes | None) -> ExecutionRecord:
    begun, ended = json.loads(begin), json.loads(end or b"{}")
    return ExecutionRecord(
        epoch,
        begun["attempt"],
        begun["model"],
        begun["provider"],
        begun["resumed_from"],
        begun["started"],
        ended.get("ended", 0),
        ended.get("error"),
    )
