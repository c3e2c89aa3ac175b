"""Test the bounded memory of broken jobs that were logged."""

from worker.execution.reported import ReportedJobs


def test_a_job_is_new_once() -> None:
    reported = ReportedJobs()

    assert [reported.is_new(job) for job in ("a", "b", "a", "b")] == [True, True, False, False]


def test_the_oldest_is_forgotten_first() -> None:
    reported = ReportedJobs(most=2)
    for job in ("a", "b", "c"):
        reported.is_new(job)

    assert [reported.is_new(job) for job in ("b", "c", "a")] == [False, False, True]
