"""Test the record of an ended job, as completion steps get it: whole, or with empty fields if it is broken."""

import json

import pytest

from shared.model.ended_job import EndedJob, JobTimes
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
    b"created": b"1000",
    b"started": b"1250",
    b"ended": b"3250",
    b"deadline": b"10000",
    b"request_id": b"req_1",
    b"try:1": b'{"attempt":1,"model":"a-model","provider":"first","resumed_from":null,"started":1250}',
    b"try:2": b'{"attempt":2,"model":"a-model","provider":"second","resumed_from":null,"started":1500}',
    b"outcome": json.dumps({"error": {"code": "server_error"}, "usage": USAGE}).encode(),
}


def test_it_has_the_fields_of_the_record() -> None:
    about = (JOB, "alice", "low", "chat", "a-model", State.FAILED, 2, USAGE, "server_error")
    expected = EndedJob(*about, "second", "req_1", JobTimes(1_000, 1_250, 0, 3_250))

    assert EndedJob.from_record(JOB, RECORD) == expected


def test_a_completed_job_has_the_same_fields_whether_it_was_read_or_not() -> None:
    outcome = json.dumps({"finish_reason": "stop", "usage": USAGE}).encode()
    running = job_from_record(JOB, {**RECORD, b"status": b"running", b"attempts": b"0", b"outcome": b"{}"})

    times = JobTimes.by_deadline(running, 0, left_s=6.75, first_token_left_s=None)

    completed = EndedJob.completed(running, 2, USAGE, "second", times, has_children=False)

    assert completed == EndedJob.from_record(JOB, {**RECORD, b"status": b"completed", b"outcome": outcome})


def test_times_follow_from_the_seconds_that_were_left_until_the_deadline() -> None:
    fresh = {name: value for name, value in RECORD.items() if name not in (b"started", b"ended")}
    times = JobTimes.by_deadline(job_from_record(JOB, fresh), 1_500, left_s=6.0, first_token_left_s=8.0)

    assert times == JobTimes(1_000, 1_500, 2_000, 4_000)
    assert (times.waited_s, times.first_token_s, times.ran_s) == (0.5, 1.0, 2.5)


def test_a_job_that_never_began_has_waited_until_its_end() -> None:
    times = JobTimes(created_ms=1_000, ended_ms=1_750)

    assert (times.waited_s, times.first_token_s, times.ran_s) == (0.75, None, None)


def test_unknown_times_are_none_and_no_time_is_negative() -> None:
    assert (JobTimes().waited_s, JobTimes().first_token_s, JobTimes().ran_s) == (None, None, None)
    assert JobTimes(created_ms=1_000, started_ms=900).waited_s == 0


@pytest.mark.parametrize("first", [b"{", b"[]", b"{}", b'{"provider": 7}'])
def test_a_provider_that_can_not_be_read_is_empty(first: bytes) -> None:
    record = {**RECORD, b"try:2": first, b"try:": b"{}", b"try:x": b"{}"}

    assert EndedJob.from_record(JOB, record).provider == ""


def test_the_fields_of_a_record_that_lacks_them_are_empty() -> None:
    assert EndedJob.from_record(JOB, {b"status": b"failed"}) == EndedJob(JOB, "", "", "", "", State.FAILED, 0, None, "")


@pytest.mark.parametrize("outcome", [b"", b"{", b"[]", b"null", b"\xff", b'{"usage": 7, "error": 8}'])
@pytest.mark.parametrize("attempts", [b"", b"-1", b"two", "²".encode()])
def test_the_fields_of_a_broken_record_are_empty(outcome: bytes, attempts: bytes) -> None:
    job = EndedJob.from_record(JOB, {**RECORD, b"outcome": outcome, b"attempts": attempts, b"lane": b"\xff"})

    assert (job.usage, job.error_code, job.attempts, job.lane) == (None, "", 0, "�")
