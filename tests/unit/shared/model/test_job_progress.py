"""Test the progress of a job as its caller sees it."""

from dataclasses import replace
from typing import Any

import pytest

from shared.model.events import EventId
from shared.model.job_progress import progress_of
from shared.model.jobs import Embedded, ExecutionRecord, Job, OnDisconnect, Progress, new_job_id
from shared.model.lifecycle import State
from shared.model.progress_count import ReportSequence

FIRST = ExecutionRecord(1, 1, "m", "p", None, 1)
SECOND = ExecutionRecord(2, 2, "m", "p", None, 1)
QUEUED = Job(
    id=new_job_id(1, 1),
    kind="any",
    tenant="alice",
    lane="default",
    model="m",
    status=State.QUEUED,
    last=EventId(0, 1),
    attempts=0,
    created_ms=1,
    started_ms=0,
    ended_ms=0,
    deadline_ms=2,
    abandon_ms=0,
    on_disconnect=OnDisconnect.CONTINUE,
    metadata={},
    outcome={},
)
RUNNING = replace(QUEUED, status=State.RUNNING, last=EventId(1, 1), attempts=1, executions=(FIRST,))
EMBEDDED = Embedded("m", 1, 4, dimensions=1, prompt_tokens=3, source="provider", sha256="")


def chat(tokens: int, expected: int, status: State = State.RUNNING, **fields: Any) -> Job:
    return replace(
        RUNNING, status=status, last=EventId(1, 1 + tokens), progress=Progress(expected_tokens=expected), **fields
    )


def shown(job: Job, at: EventId | None = None, *, streams_text: bool = True) -> dict[str, Any]:
    return progress_of(job, streams_text=streams_text, at=at).as_dict()


@pytest.mark.parametrize(
    ("job", "percent", "message"),
    [
        (QUEUED, 0, None),
        (replace(QUEUED, status=State.WAITING), 0, None),
        (chat(0, 200), 0, "0 tokens"),
        (chat(1, 200), 0, "1 token"),
        (chat(50, 200), 25, "50 tokens"),
        (chat(200, 200), 99, "200 tokens"),
        (chat(300, 200), 99, "300 tokens"),
        (chat(50, 0), None, "50 tokens"),
        (chat(50, 200, State.CANCELLING), 25, "50 tokens"),
        (chat(0, 0, State.COMPLETED, outcome={"usage": {"completion_tokens": 7}}), 100, "7 tokens"),
        (chat(0, 200, State.FAILED, outcome={"usage": {"completion_tokens": 50}}), 25, "50 tokens"),
        (chat(9, 200, State.EXPIRED, outcome={"usage": None}), 0, "0 tokens"),
    ],
)
def test_a_chat_counts_its_tokens_against_the_expected_ones(job: Job, percent: int | None, message: str | None) -> None:
    assert shown(job) == {"percent": percent, "stage": job.status.value, "message": message}


def test_a_continued_answer_counts_the_tokens_before() -> None:
    continued = replace(chat(10, 200), progress=Progress(expected_tokens=200, deltas_offset=89))

    assert shown(continued)["percent"] == 50


def test_a_reader_that_is_ahead_of_the_record_counts_up_to_its_event() -> None:
    job = chat(50, 200)

    assert shown(job, EventId(1, 101))["percent"] == 50
    assert shown(job, EventId(1, 2))["percent"] == 25
    assert shown(job, EventId(2, 900))["percent"] == 25


def test_an_attempt_after_a_failed_one_starts_over_as_a_retry() -> None:
    left = replace(chat(50, 200), executions=(replace(FIRST, ended_ms=2),))
    again = replace(chat(0, 200), executions=(FIRST, SECOND), attempts=2)

    assert [(shown(job)["percent"], shown(job)["stage"]) for job in (left, again)] == [
        (25, "retrying"),
        (0, "retrying"),
    ]


def test_an_execution_that_was_handed_on_is_no_retry() -> None:
    handed_on = replace(RUNNING, executions=(replace(FIRST, ended_ms=2),), attempts=0)

    assert shown(handed_on)["stage"] == "running"


def test_a_list_of_embeddings_counts_its_inputs() -> None:
    job = replace(RUNNING, embedded=EMBEDDED)
    counted = {"message": "1 of 4 inputs", "done": 1, "total": 4}

    assert shown(job, streams_text=False) == {"percent": 25, "stage": "running", **counted}
    assert shown(replace(job, status=State.FAILED))["percent"] == 25
    assert shown(replace(job, embedded=replace(EMBEDDED, done=4)))["percent"] == 99


def test_a_function_says_its_progress_itself() -> None:
    report = ReportSequence(1, 1).next(1, 3, "indexing")
    job = replace(RUNNING, report=report)

    said = {"message": "indexing", "done": 1, "total": 3}
    assert shown(job, streams_text=False) == {"percent": 33, "stage": "running", **said}
    assert shown(replace(job, status=State.COMPLETED), streams_text=False)["percent"] == 100


def test_a_function_that_says_nothing_has_a_stage_only() -> None:
    assert shown(RUNNING, streams_text=False) == {"percent": None, "stage": "running", "message": None}
