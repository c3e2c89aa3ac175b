"""Test the percent of a part, and the reports of one execution of a function."""

import math

import pytest

from shared.model.progress_count import MESSAGE_CHARS, ProgressReport, ReportSequence, percent_of, stage_of


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [
        (0, 4, 0),
        (1, 4, 25),
        (2, 3, 66),
        (4, 4, 99),
        (9, 4, 99),
        (-1, 4, 0),
        (1, None, None),
        (1, 0, None),
        (1, -4, None),
        (1e299, 1e-300, 99),
    ],
)
def test_a_percent_is_from_0_to_99_and_missing_without_a_total(
    done: float, total: float | None, percent: int | None
) -> None:
    assert percent_of(done, total) == percent


def test_the_second_attempt_is_a_retry() -> None:
    assert [stage_of(attempt) for attempt in (1, 2, 3)] == ["running", "retrying", "retrying"]


def test_a_report_has_its_execution_in_the_record_and_not_in_the_event() -> None:
    report = ReportSequence(epoch=7, attempt=2).next(1, 4, "indexing")

    assert report.as_event() == {"done": 1, "total": 4, "percent": 25, "stage": "retrying", "message": "indexing"}
    assert report.as_record() == {"epoch": 7, **report.as_event()}
    assert ProgressReport.read(report.as_record() | {"of a newer version": 1}) == report


def test_a_report_keeps_the_percent_of_a_former_one_that_was_further() -> None:
    reports = ReportSequence(1, 1)

    assert [reports.next(done, total, "").percent for done, total in [(1, None), (3, 4), (1, 4), (1, None)]] == [
        None,
        75,
        75,
        75,
    ]


def test_a_long_message_is_cut() -> None:
    assert ReportSequence(1, 1).next(0, None, "x" * (MESSAGE_CHARS + 1)).message == "x" * MESSAGE_CHARS


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, "1", None])
def test_a_report_of_something_else_than_a_number_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^done of a progress report must be a number"):
        ReportSequence(1, 1).next(value, 4, "")  # type: ignore[arg-type]
    if value is not None:
        with pytest.raises(ValueError, match=r"^total of a progress report must be a number"):
            ReportSequence(1, 1).next(1, value, "")  # type: ignore[arg-type]


def test_a_message_that_is_not_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^message of a progress report must be a text"):
        ReportSequence(1, 1).next(1, 4, 5)  # type: ignore[arg-type]
