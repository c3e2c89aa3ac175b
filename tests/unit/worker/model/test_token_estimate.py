"""Test the estimated cost of an abandoned job's rest.

It is the job's limit, or an answer of its model, less the tokens that were generated.
"""

from typing import Any

import pytest

from shared.model.bounds import ESTIMATED_MODELS
from worker.model.token_estimate import SavedTokenEstimate


def asked(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [], **fields}


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100}, 100),
        ({"max_tokens": 7, "max_completion_tokens": 100}, 100),
        ({"max_tokens": 100, "max_completion_tokens": None}, 100),
        ({"max_tokens": 50, "n": 2}, 100),
        ({"max_tokens": 100, "n": True}, 100),
    ],
)
def test_a_job_with_a_limit_would_have_reached_it(fields: dict[str, Any], limit: int) -> None:
    assert SavedTokenEstimate().of(asked(**fields), 0) == limit
    assert SavedTokenEstimate().of(asked(**fields), 30) == limit - 30
    assert SavedTokenEstimate().of(asked(**fields), limit + 1) == 0


@pytest.mark.parametrize("limit", [None, 0, -1, True, "100", 1.5])
def test_a_malformed_limit_is_ignored(limit: object) -> None:
    assert SavedTokenEstimate().of(asked(max_tokens=limit), 0) == 0


def test_a_job_without_a_limit_would_have_been_as_long_as_its_models_answers() -> None:
    token_estimate = SavedTokenEstimate()
    for tokens in (100, 200, 300):
        token_estimate.record(asked(), tokens)
    token_estimate.record(asked("another"), 9)
    assert token_estimate.of(asked(), 0) == 200
    assert token_estimate.of(asked(), 50) == 150
    assert token_estimate.of(asked(), 1000) == 0
    assert token_estimate.of(asked("another"), 0) == 9


def test_no_saved_tokens_are_estimated_for_a_model_that_never_answered() -> None:
    assert SavedTokenEstimate().of(asked(), 0) == 0
    assert SavedTokenEstimate().of({}, 0) == 0


def test_the_choices_of_an_answer_share_its_tokens() -> None:
    token_estimate = SavedTokenEstimate()
    token_estimate.record(asked(n=4), 400)
    assert token_estimate.of(asked(), 0) == 100
    assert token_estimate.of(asked(n=3), 0) == 300


def test_the_mean_follows_a_model_that_changes_its_ways() -> None:
    token_estimate = SavedTokenEstimate()
    for _ in range(1_000):
        token_estimate.record(asked(), 100)
    for _ in range(500):
        token_estimate.record(asked(), 1_000)
    assert token_estimate.of(asked(), 0) > 950


def test_only_the_models_that_answered_last_are_kept() -> None:
    token_estimate = SavedTokenEstimate()
    token_estimate.record(asked("kept"), 5)
    token_estimate.record(asked("forgotten"), 5)
    for number in range(ESTIMATED_MODELS - 1):
        token_estimate.record(asked("kept"), 5)
        token_estimate.record(asked(str(number)), 5)
    assert token_estimate.of(asked("kept"), 0) == 5
    assert token_estimate.of(asked("forgotten"), 0) == 0
