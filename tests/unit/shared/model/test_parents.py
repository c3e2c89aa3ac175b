"""Test the parents of a job: their names, their form in a record, and their ends."""

import pytest

from shared.model.errors import BrokenJob, ParentFailed, ParentGone, needs_a_person
from shared.model.job_record import job_from_record
from shared.model.lifecycle import TERMINAL, State
from shared.model.parents import OnParentFailure, ParentEnd, Parents, is_parent_name, parent_end_of
from tests.unit.shared.model.test_jobs import JOB, record


@pytest.mark.parametrize("name", ["a", "outline", "Step_2-b", "x" * 64])
def test_a_name_has_letters_digits_dashes_and_underscores(name: str) -> None:
    assert is_parent_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a.b", "é", "a\n", '"'])
def test_other_texts_are_not_names(name: str) -> None:
    assert not is_parent_name(name)


def test_two_names_may_mean_one_job() -> None:
    assert Parents({"a": "job_1", "b": "job_2", "c": "job_1"}).ids == ("job_1", "job_2")


@pytest.mark.parametrize("policy", OnParentFailure)
def test_a_record_has_the_parents_as_they_were_given(policy: OnParentFailure) -> None:
    parents = Parents({"b": "job_2", "a": "job_1"}, policy)
    fields = {"after": parents.encode(), "on_parent_failure": policy.encode(), "awaited": b"job_2 job_1"}

    job = job_from_record(JOB, record(**fields, released=b"2000", children=b"1", status=b"queued"))

    assert job.parents == parents
    assert (job.awaited, job.released_ms, job.has_children) == (("job_2", "job_1"), 2000, True)
    assert (job.ready_ms, job.timeout_s) == (2000, 29)


def test_a_job_without_parents_is_ready_from_its_submit() -> None:
    job = job_from_record(JOB, record())

    assert (job.parents, job.awaited, job.has_children) == (None, (), False)
    assert (job.ready_ms, job.timeout_s) == (1000, 30)


def test_a_record_with_a_policy_of_a_newer_version_is_broken() -> None:
    with pytest.raises(BrokenJob):
        job_from_record(JOB, record(after=b"{}", on_parent_failure=b"wait"))


@pytest.mark.parametrize(("status", "began"), [(State.WAITING, False), (State.QUEUED, False), (State.RUNNING, True)])
def test_a_job_that_waits_has_not_begun(status: State, began: bool) -> None:
    assert job_from_record(JOB, record(status=status.encode())).place.began is began


@pytest.mark.parametrize("status", State)
def test_the_end_of_a_parent_follows_from_its_status(status: State) -> None:
    expected = ParentEnd.FAILED if status in TERMINAL else None
    assert parent_end_of(status) is (ParentEnd.COMPLETED if status is State.COMPLETED else expected)


def test_a_job_that_fails_with_its_parent_is_not_a_dead_letter() -> None:
    assert not needs_a_person(ParentFailed.code)
    assert not needs_a_person(ParentGone.code)
    assert not needs_a_person("invalid_request")
    assert needs_a_person("server_error")
