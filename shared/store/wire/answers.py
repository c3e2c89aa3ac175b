"""Answers of the functions about executions and jobs, as types.

Pure. Not here: the calls themselves (shared/store/jobs.py, shared/store/queue.py, shared/store/replay_log.py,
shared/store/results.py), error answers (redis_answers.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Written:
    """The entry is in the log; `repeated` if the identical call was sent before.

    `tenant_full`: the job's tenant now keeps more bytes than it may, so the job has to end. `has_children`: the job has
    ended, and jobs that come after it have registered.
    """

    tenant_full: bool = False
    repeated: bool = False
    has_children: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """Nothing was written: Redis lost events, and the log ends at event `log_end` of this epoch."""

    log_end: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing was written: the server takes nothing more now. `reason` is its error answer."""

    reason: str


class StopReason(StrEnum):
    """The reason why an execution stops before its provider has finished."""

    FENCED = "fenced"
    """Another execution of the job has begun."""
    CANCELLED = "cancelled"
    ENDED = "ended"
    MISSING = "missing"
    """The job has no record."""
    NOT_ALLOWED = "refused"
    """The job's state may not become the requested one."""
    BEHIND = "behind"
    """Redis lost events that this process no longer has."""
    LOST = "lost"
    """Another worker claimed the job."""
    DRAIN = "drain"
    """This worker is shutting down."""

    @property
    def job_has_ended(self) -> bool:
        """Check whether the job has its terminal event, or no record."""
        return self in (StopReason.ENDED, StopReason.MISSING)


FinishAnswer = Written | Behind | StopReason
"""The answer to a terminal event."""
AppendAnswer = FinishAnswer | Busy
"""The answer to an entry of the log or a part of the result."""
_BUSY: Final = b"busy "


class BeginRefusal(StrEnum):
    """The reason why an execution did not begin."""

    MISSING = "missing"
    ENDED = "ended"
    WAITING = "waiting"
    """The jobs that it comes after have not ended."""
    CANCELLING = "cancelling"
    EXPIRED = "expired"
    STALE = "stale"
    """Another execution has begun since the record was read."""
    MOVED = "moved"
    """The log has grown since it was read."""

    @property
    def job_has_ended(self) -> bool:
        """Check whether the job has its terminal event, or no record."""
        return self in (BeginRefusal.ENDED, BeginRefusal.MISSING)


class CancelAnswer(StrEnum):
    """The result of a request to cancel or abandon a job."""

    MISSING = "missing"
    ENDED = "ended"
    """The job had ended before."""
    CANCELLED = "cancelled"
    """The job ended at once."""
    CANCELLING = "cancelling"
    """The job's worker has to end it."""
    WATCHED = "watched"
    """The job has a viewer again and is not abandoned."""


class ForgetAnswer(StrEnum):
    """The result of a request to delete a job."""

    MISSING = "missing"
    DELETED = "deleted"
    HIDDEN = "hidden"
    """The job has not ended, or its completion steps have not run: it is stored for a minute longer."""


@dataclass(frozen=True, slots=True)
class ArqEntry:
    """The arq message of a job, None if it is lost, and how often workers have taken the job, this time included."""

    message: bytes | None
    tries: int


@dataclass(frozen=True, slots=True)
class StoredJob:
    """The record and the request of a job as they were when it was taken."""

    record: Mapping[bytes, bytes]
    request: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that this worker may run now. `due_ms` is when it was due, in milliseconds since the Unix epoch.

    `entry` is None if arq's keys could not be read. `stored` is None if the jobs are on another server, or if the job's
    request is large or lost.
    """

    lane: str
    job_id: str
    due_ms: int
    entry: ArqEntry | None = None
    stored: StoredJob | None = None


@dataclass(frozen=True, slots=True)
class RetryLater:
    """No job is ready; the next one is due after `after_s`."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Empty:
    """No job is ready, and none is due later."""


TakeAnswer = Taken | RetryLater | Empty
"""The answer to a worker that asks for its next job."""


class RenewAnswer(StrEnum):
    """The state of a claim after its renewal."""

    HELD = "ok"
    LOST = "lost"
    """Another worker has the job."""
    GONE = "gone"
    """The queue does not hold the job."""


def parse_take_answer(lanes: Sequence[str], index: int, found: Sequence[Any]) -> TakeAnswer:
    """Parse what `take` found: a job of the lane at `index` (from 1), or the time until the next one is due (ms)."""
    if index:
        job_id, due_ms, tries, message, *stored = found
        entry = ArqEntry(message, tries) if tries else None
        return Taken(lanes[index - 1], job_id.decode(), int(due_ms), entry, _parse_stored_job(*stored))
    (wait_ms,) = found
    return Empty() if wait_ms < 0 else RetryLater(wait_ms / 1000)


def _parse_stored_job(record: Sequence[bytes] = (), request: bytes = b"") -> StoredJob | None:
    return StoredJob(dict(zip(record[::2], record[1::2], strict=True)), request) if request else None


def parse_append_answer(raw: bytes) -> AppendAnswer:
    """Parse the answer of a step that writes one of several entries; one of them may be refused for lack of memory."""
    if raw.startswith(_BUSY):
        return Busy(raw.removeprefix(_BUSY).decode("utf-8", "replace"))
    return parse_finish_answer(raw)


def parse_finish_answer(raw: bytes) -> FinishAnswer:
    """Parse the answer of a step that writes an event."""
    word, _, detail = raw.decode().partition(" ")
    match word:
        case "ok":
            return Written(tenant_full=detail == "full", has_children=detail == "children")
        case "have":
            return Written(repeated=True, has_children=detail == "children")
        case "behind":
            return Behind(int(detail))
        case _:
            return StopReason(word)


def parse_beat_answer(raw: bytes) -> StopReason | None:
    """Parse the answer to a heartbeat; None if the execution may continue."""
    return None if raw == b"ok" else StopReason(raw.decode())


def has_ended(answer: FinishAnswer) -> bool:
    """Check whether the job has its terminal event after this answer."""
    if isinstance(answer, StopReason):
        return answer.job_has_ended
    return isinstance(answer, Written)
