"""Test the record of an ended job, as completion steps get it: whole, or with empty fields if it is broken."""

import json

import pytest

from shared.model.ended_job import EndedJob
from shared.model.job_record import job_from_record
from shared.model.lifecycle import State

JOB = "job_01m8ak3p63hb4vhzenqqsd3wjw"
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "source": "provider"}
RECORD = {
    b"v": b"1",
    b"kind": b"chat",
    b"tenant": b"alice",
    b"lane": b"low",
    b"model": b"a-model",
    b"status": b"failed",
    b"epoch": b"1",
    b"seq": b"2",
    b"attempts": b"2",
    b"created": b"1",
    b"deadline": b"2",
    b"outcome": json.dumps({"error": {"code": "server_error"}, "usage": USAGE}).encode(),
}


def test_it_has_the_fields_of_the_record() -> None:
    expected = EndedJob(JOB, "alice", "low", "chat", "a-model", State.FAILED, 2, USAGE, "server_error")

    assert EndedJob.from_record(JOB, RECORD) == expected


def test_a_completed_job_has_the_same_fields_whether_it_was_read_or_not() -> None:
    outcome = json.dumps({"finish_reason": "stop", "usage": USAGE}).encode()
    running = job_from_record(JOB, {**RECORD, b"status": b"running", b"attempts": b"0", b"outcome": b"{}"})

    completed = EndedJob.completed(running, 2, USAGE)

    assert completed == EndedJob.from_record(JOB, {**RECORD, b"status": b"completed", b"outcome": outcome})


def test_the_fields_of_a_record_that_lacks_them_are_empty() -> None:
    assert EndedJob.from_record(JOB, {b"status": b"failed"}) == EndedJob(JOB, "", "", "", "", State.FAILED, 0, None, "")


@pytest.mark.parametrize("outcome", [b"", b"{", b"[]", b"null", b"\xff", b'{"usage": 7, "error": 8}'])
@pytest.mark.parametrize("attempts", [b"", b"-1", b"two", "²".encode()])
def test_the_fields_of_a_broken_record_are_empty(outcome: bytes, attempts: bytes) -> None:
    job = EndedJob.from_record(JOB, {**RECORD, b"outcome": outcome, b"attempts": attempts, b"lane": b"\xff"})

    assert (job.usage, job.error_code, job.attempts, job.lane) == (None, "", 0, "�")
