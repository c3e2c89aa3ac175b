"""Test job ids, and records as they are read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.errors import BrokenJob
from shared.model.events import EventId, encode_data
from shared.model.job_record import RECORD_VERSION, job_from_record, progress_json
from shared.model.jobs import (
    Embedded,
    Job,
    JobIds,
    OnDisconnect,
    Progress,
    Usage,
    code_in,
    created_ms,
    is_job_id,
    new_job_id,
)
from shared.model.lifecycle import TERMINAL, State
from shared.model.progress_count import ReportSequence

NOW_MS = 1_700_000_000_123
MOST_RANDOM = (1 << 80) - 1
JOB = new_job_id(NOW_MS, 7)
OTHERS = [state.value.encode() for state in State if state is not State.FAILED]


def record(**changes: bytes | None) -> dict[bytes, bytes]:
    """Build a record as Redis returns it; a change to None leaves the field out."""
    fields: dict[str, bytes | None] = {
        "v": b"%d" % RECORD_VERSION,
        "status": b"running",
        "kind": b"chat",
        "tenant": b"alice",
        "lane": b"default",
        "model": "modèle".encode(),
        "epoch": b"2",
        "seq": b"17",
        "attempts": b"1",
        "created": b"1000",
        "started": b"1001",
        "deadline": b"31000",
        "abandon_at": b"0",
        "on_disconnect": b"cancel",
        "metadata": b'{"a":"b"}',
    }
    return {name.encode(): value for name, value in (fields | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ({"error": {"code": "invalid_request"}}, "invalid_request"),
        ({"error": {"code": None}}, ""),
        ({"error": {}}, ""),
        ({"error": None}, ""),
        ({"error": "x"}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_the_code_of_a_bad_end_is_read_from_its_data(outcome: dict[str, Any], code: str) -> None:
    assert code_in(outcome) == code


def test_progress_is_read_as_it_was_written() -> None:
    progress = Progress(1, 2, (0,), (1,), (3,), 4, 5, 6, 7, ((8, 9.5),))
    assert job_from_record(JOB, record(progress=progress_json(progress))).progress == progress


def test_progress_is_written_with_the_names_that_former_versions_read() -> None:
    written = json.loads(progress_json(Progress(target=2, excluded=(0,), cannot_continue=(1,), discarded_tokens=5)))
    assert {name: written[name] for name in ("link", "barred", "unable", "wasted")} == {
        "link": 2,
        "barred": [0],
        "unable": [1],
        "wasted": 5,
    }


def test_progress_of_another_version_is_read_as_far_as_it_is_known() -> None:
    read = job_from_record(JOB, record(progress=b'{"link":1,"new":[2]}')).progress
    assert read == Progress(target=1)


@pytest.mark.parametrize(
    ("epoch", "status", "counts"),
    [(b"1", b"running", True), (b"2", b"running", False), (b"2", b"failed", True)],
)
def test_a_report_counts_for_its_own_execution_and_for_the_end(epoch: bytes, status: bytes, counts: bool) -> None:
    report = ReportSequence(epoch=1, attempt=1).next(1, 3, "indexing")
    stored = record(epoch=epoch, status=status, report=encode_data(report.as_record()))

    assert job_from_record(JOB, stored).report == (report if counts else None)


def test_a_job_that_failed_by_its_own_request_is_not_a_dead_letter() -> None:
    def failed(code: str) -> Job:
        return job_from_record(JOB, record(status=b"failed", outcome=encode_data({"error": {"code": code}})))

    assert [failed(code).dead_letter for code in ("provider_error", "", "invalid_request")] == [True, True, False]
    assert failed("invalid_request").error_code == "invalid_request"


def test_ids_sort_by_the_time_they_were_made_whatever_the_randomness() -> None:
    times = [0, 1, 31, 32, 1023, NOW_MS, NOW_MS + 1, 2**48 - 1]
    ids = [new_job_id(time, randomness) for time in times for randomness in (0, MOST_RANDOM)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {len(job_id) for job_id in ids} == {len("job_") + 26}


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, MOST_RANDOM)), max_size=50))
def test_ids_of_one_process_sort_in_the_order_in_which_they_were_made(steps: list[tuple[int, int]]) -> None:
    ids, time, made = JobIds(), NOW_MS, []
    for later_ms, randomness in steps:
        time += later_ms
        made.append(ids.next(time, randomness))

    assert made == sorted(set(made))


def test_ids_of_one_millisecond_cannot_be_guessed_from_each_other() -> None:
    ids = JobIds()
    first, second = ids.next(NOW_MS, 5), ids.next(NOW_MS, (7 << 64) + (1 << 63))

    assert (first, second) == (new_job_id(NOW_MS, 5), new_job_id(NOW_MS, 6 + (1 << 63)))


def test_many_ids_of_one_millisecond_stay_in_it() -> None:
    ids = JobIds()

    assert {created_ms(ids.next(NOW_MS, MOST_RANDOM)) for _ in range(1000)} == {NOW_MS}


@pytest.mark.parametrize("time", [0, 1, NOW_MS, 2**48 - 1])
def test_an_id_contains_its_time_of_creation(time: int) -> None:
    assert created_ms(new_job_id(time, MOST_RANDOM)) == time


def test_too_much_randomness_does_not_move_an_id_in_time() -> None:
    assert new_job_id(NOW_MS, (1 << 100) - 1) == new_job_id(NOW_MS, MOST_RANDOM)


def test_an_id_is_known_as_one() -> None:
    assert is_job_id(JOB)


@pytest.mark.parametrize(
    "text",
    [
        "", "job_", JOB[:-1], JOB + "0", JOB.upper(), JOB.removeprefix("job_"), "resp_" + JOB[4:], JOB[:-1] + "u",
        JOB[:-1] + "\n", JOB[:-1] + "é", "job_job_" + JOB[8:], JOB[4:] + "0000", f"{JOB[:-1]}}}",
    ],
)  # fmt: skip
def test_a_malformed_id_is_not_an_id(text: str) -> None:
    assert not is_job_id(text)


def test_a_record_is_read_field_by_field() -> None:
    job = job_from_record(JOB, record(ended=b"5000", outcome=b'{"usage":null}', abandon_at=b"77", status=b"failed"))

    assert (job.id, job.kind, job.tenant, job.lane, job.model) == (JOB, "chat", "alice", "default", "modèle")
    assert (job.status, job.last, job.attempts) == (State.FAILED, EventId(2, 17), 1)
    assert (job.created_ms, job.started_ms, job.ended_ms) == (1000, 1001, 5000)
    assert (job.deadline_ms, job.abandon_ms, job.on_disconnect) == (31000, 77, OnDisconnect.CANCEL)
    assert (job.abandonable, job.background) == (True, False)
    assert (job.metadata, job.outcome) == ({"a": "b"}, {"usage": None})


def test_missing_fields_of_a_new_job_are_zero_or_empty() -> None:
    job = job_from_record(JOB, record(started=None, abandon_at=None, metadata=None, on_disconnect=None))

    assert (job.started_ms, job.ended_ms, job.abandon_ms) == (0, 0, 0)
    assert (job.abandonable, job.background) == (False, True)
    assert (job.metadata, job.outcome) == ({}, {})


def test_the_record_of_a_dead_letter_names_its_former_and_its_next_job() -> None:
    job = job_from_record(JOB, record(status=b"failed", requeued_from=b"job_a", requeued_as=b"job_b"))

    assert (job.requeued_from, job.requeued_as, job.dead_letter) == ("job_a", "job_b", True)


@pytest.mark.parametrize(
    "changes",
    [{"status": b"failed", "hidden": b"1"}, {"status": b"failed", "dismissed": b"1"}, *({"status": s} for s in OTHERS)],
)
def test_a_job_that_did_not_fail_or_was_deleted_is_not_a_dead_letter(changes: dict[str, bytes]) -> None:
    job = job_from_record(JOB, record(**changes))

    assert not job.dead_letter
    assert (job.requeued_from, job.requeued_as) == (None, None)


@pytest.mark.parametrize("status", State)
def test_a_job_has_ended_in_exactly_the_terminal_states(status: State) -> None:
    assert job_from_record(JOB, record(status=status.encode())).ended == (status in TERMINAL)


@pytest.mark.parametrize("version", [None, b"", b"2", b"\xff", b"01"])
def test_a_record_of_another_version_is_broken_with_a_named_cause(version: bytes | None) -> None:
    with pytest.raises(BrokenJob, match="has version"):
        job_from_record(JOB, record(v=version))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", None), ("status", b"paused"), ("status", b"\xff"), ("kind", None), ("tenant", b"\xff"),
        ("lane", None), ("model", None), ("epoch", b""), ("epoch", b"one"), ("seq", None), ("attempts", b"1.5"),
        ("created", None), ("deadline", b"soon"), ("started", b""), ("metadata", b"{"), ("outcome", b"\xff"),
    ],
)  # fmt: skip
def test_a_record_with_a_broken_field_is_broken(field: str, value: bytes | None) -> None:
    with pytest.raises(BrokenJob, match="can't be read"):
        job_from_record(JOB, record(**{field: value}))


def test_usage_adds_up_and_names_its_source() -> None:
    usage = Usage(3, 4, "provider", {"completion_tokens_details": {"reasoning_tokens": 2}})

    assert usage.as_dict() == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 2},
        "source": "provider",
    }


# The retention of results.

HALF = Embedded(model="m", done=100, total=200, dimensions=3, prompt_tokens=7, source="provider", sha256="abc")


def test_a_record_contains_the_progress_of_its_result() -> None:
    job = job_from_record(JOB, record(embedded=encode_data(HALF.as_dict())))

    assert job.embedded == HALF
    assert (HALF.vector_bytes, HALF.size) == (12, 1200)
    assert HALF.proof() == {"inputs": 100, "dimensions": 3, "sha256": "abc"}
    assert job_from_record(JOB, record()).embedded is None


def test_the_usage_of_an_incomplete_result_is_partial() -> None:
    assert HALF.usage == Usage(7, 0, "partial")
    assert replace(HALF, done=200).usage == Usage(7, 0, "provider")


@pytest.mark.parametrize("raw", [b"no json", b"[]", b'{"done":1}', b'{"done":1,"more":2}'])
def test_a_record_whose_result_cannot_be_read_is_broken(raw: bytes) -> None:
    with pytest.raises(BrokenJob, match="can't be read"):
        job_from_record(JOB, record(embedded=raw))
