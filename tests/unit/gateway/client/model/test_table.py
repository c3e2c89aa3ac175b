"""Test the table of jobs for people."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.client.model.table import duration, table, table_of_letters

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
DONE: dict[str, Any] = {
    "id": "job_1",
    "status": "completed",
    "model": "small",
    "created_at": "2026-01-02T11:58:00.000+00:00",
    "started_at": "2026-01-02T11:58:00.500+00:00",
    "ended_at": "2026-01-02T11:58:03.000+00:00",
    "usage": {"completion_tokens": 31},
}


def test_each_job_is_a_row() -> None:
    queued = {"id": "job_22", "status": "queued", "model": "large", "created_at": "2026-01-02T11:59:48.000+00:00"}
    running = {**DONE, "status": "running", "ended_at": None, "usage": None}

    assert table([queued, running, DONE], NOW).splitlines() == [
        "JOB     STATUS     MODEL  AGE    TOOK   TOKENS",
        "job_22  queued     large  12 s   -      -",
        "job_1   running    small  2 min  1 min  -",
        "job_1   completed  small  2 min  2.5 s  31",
    ]


def test_a_name_chosen_by_a_caller_can_not_break_the_table() -> None:
    (_, row) = table([{**DONE, "model": "\x1b[31m\n" + "m" * 300}], NOW).splitlines()

    assert f"␛[31m {'m' * 25}…  " in row


def test_a_missing_value_is_a_dash() -> None:
    (_, row) = table([{"created_at": "soon", "started_at": "2026-01-02T11:58:00", "usage": {}}], NOW).splitlines()

    assert row.split() == ["None", "None", "-", "-", "-", "-"]


LETTER: dict[str, Any] = {
    "id": "job_1",
    "tenant": "alice",
    "model": "small",
    "ended_at": "2026-01-02T11:58:00.000+00:00",
    "error": {"code": "provider_timeout"},
    "attempts": [{}, {}],
    "requeued_as": None,
}


def test_each_dead_letter_is_a_row() -> None:
    assert table_of_letters([LETTER], NOW).splitlines() == [
        "JOB    CODE              TENANT  MODEL  AGE    TRIES",
        "job_1  provider_timeout  alice   small  2 min  2",
    ]


def test_a_requeued_dead_letter_shows_its_new_job() -> None:
    _, first, second = table_of_letters([LETTER, {**LETTER, "requeued_as": "job_2"}], NOW).splitlines()

    assert first.endswith("2      -")
    assert second.endswith("2      job_2")


def test_an_unreadable_dead_letter_is_a_row_too() -> None:
    (_, row) = table_of_letters([{"id": "job_1"}], NOW).splitlines()

    assert row.split() == ["job_1", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (12, "12 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (180_000, "2 d")],
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
