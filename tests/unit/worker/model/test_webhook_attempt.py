"""Decide what follows an attempt to deliver a webhook."""

import pytest

from worker.model.webhook_attempt import (
    ATTEMPTS,
    RETRIES_S,
    Attempted,
    Dead,
    Delivered,
    RetryIn,
    outcome_of,
    retry_pause_s,
)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_success_is_delivered(status: int) -> None:
    assert outcome_of(Attempted(status), ATTEMPTS, 0.5) == Delivered()


@pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 307, 400, 401, 404, 429, 500, 503])
def test_all_else_is_tried_again(status: int | None) -> None:
    assert outcome_of(Attempted(status), 1, 0.0) == RetryIn(5.0)


@pytest.mark.parametrize("attempt", [1, ATTEMPTS])
def test_a_receiver_that_is_gone_gets_no_further_attempt(attempt: int) -> None:
    assert outcome_of(Attempted(410, 9.0), attempt, 0.0) == Dead(gone=True)


def test_the_last_attempt_that_fails_is_dead() -> None:
    assert outcome_of(Attempted(500), ATTEMPTS - 1, 0.0) == RetryIn(RETRIES_S[-1])
    assert outcome_of(Attempted(500), ATTEMPTS, 0.0) == Dead(gone=False)


@pytest.mark.parametrize(("asked_s", "pause_s"), [(None, 5.0), (0.0, 5.0), (1.0, 5.0), (60.0, 60.0), (1e9, 86_400.0)])
def test_the_receivers_pause_is_honoured_up_to_a_day(asked_s: float | None, pause_s: float) -> None:
    assert outcome_of(Attempted(429, asked_s), 1, 0.0) == RetryIn(pause_s)


def test_the_pauses_grow_from_five_seconds_to_a_day() -> None:
    pauses = [retry_pause_s(attempt, 0.0) for attempt in range(1, ATTEMPTS)]
    assert (pauses[0], pauses[-1], pauses) == (5.0, 86_400.0, sorted(pauses))


def test_a_pause_is_longer_by_a_random_fifth_at_most() -> None:
    assert retry_pause_s(1, 0.5) == pytest.approx(5.5)
    assert retry_pause_s(1, 1.0) == pytest.approx(6.0)
