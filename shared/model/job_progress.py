"""The progress of a job as its caller sees it, computed from the job's record.

A chat's tokens follow from the id of its last event, so that its progress costs no write. Pure. Not here: the reports
of functions (progress_count.py).
"""

from dataclasses import dataclass
from typing import Any

from shared.model.events import EventId
from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.model.progress_count import percent_of, stage_of

_NOT_BEGUN = (State.WAITING, State.QUEUED)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress of a job. `percent` is 100 if the job has completed, and None if the total is not known.

    `stage` is the job's status, or `retrying` from the end of an attempt that failed on. `done` and `total` are set if
    the job counts something other than tokens.
    """

    percent: int | None
    stage: str
    message: str | None = None
    done: float | None = None
    total: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the `progress` object of a job; it has `done` and `total` only if the job counts them."""
        shown: dict[str, Any] = {"percent": self.percent, "stage": self.stage, "message": self.message}
        return shown if self.done is None else {**shown, "done": self.done, "total": self.total}


def progress_of(job: Job, *, streams_text: bool, at: EventId | None = None) -> JobProgress:
    """Return the progress of a job, whose log may have grown to `at` since its record was read."""
    percent, message, done, total = _count(job, at, streams_text=streams_text)
    if job.status is State.COMPLETED:
        percent = 100
    elif job.status in _NOT_BEGUN:
        percent = 0
    return JobProgress(percent, _stage(job), message, done, total)


_Count = tuple[int | None, str | None, float | None, float | None]
"""Percent, message, done and total."""


def _count(job: Job, at: EventId | None, *, streams_text: bool) -> _Count:
    if made := job.embedded:
        return percent_of(made.done, made.total), f"{made.done} of {made.total} inputs", made.done, made.total
    if said := job.report:
        return said.percent, said.message or None, said.done, said.total
    if not streams_text or job.status in _NOT_BEGUN:
        return None, None, None, None
    tokens = _ended_tokens(job) if job.ended else _tokens(job, at)
    message = "1 token" if tokens == 1 else f"{tokens} tokens"
    return percent_of(tokens, job.progress.expected_tokens), message, None, None


def _tokens(job: Job, at: EventId | None) -> int:
    """Count the deltas of the answer. `at` counts only if it is an event of the execution that the record knows."""
    seq = max(at.seq, job.last.seq) if at is not None and at.epoch == job.last.epoch else job.last.seq
    return max(seq + job.progress.deltas_offset, 0)


def _ended_tokens(job: Job) -> int:
    """Return the count in the terminal event: another process may have ended the job with an execution of its own."""
    usage = job.outcome.get("usage") or {}
    return int(usage.get("completion_tokens") or 0)


def _stage(job: Job) -> str:
    if job.status is not State.RUNNING or not job.executions:
        return job.status.value
    last = job.executions[-1]
    # An execution that its worker handed on costs no attempt, and the next one has the same number.
    return "retrying" if last.ended_ms and last.attempt <= job.attempts else stage_of(last.attempt)
