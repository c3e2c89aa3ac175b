"""Test the step after a failed attempt."""

from dataclasses import replace

import pytest

from shared.model.errors import (
    REFUSALS,
    AttemptFailed,
    BrokenJob,
    Cancelled,
    CircuitOpen,
    DeadlinePassed,
    InternalError,
    OutputTooLarge,
    PermanentFailure,
    PoisonJob,
    ProviderGarbage,
    ProviderRefused,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnreachable,
    RetryLater,
)
from shared.model.jobs import Progress
from worker.model.retry import (
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    CLASSIFICATIONS,
    NEAR_DELTAS,
    Budget,
    FailureClass,
    RetryContext,
    RetryDecision,
    after_loss,
    classify,
    decide,
    order_of,
)

BUDGET = Budget(max_attempts=3, max_regenerated_tokens=100)


def failure(
    error: AttemptFailed | None = None,
    *,
    targets: int = 1,
    able: range | None = None,
    shown: int = 0,
    left_s: float = 60,
) -> RetryContext:
    """Build a failure of a job that has time; nothing was shown, unless stated."""
    return RetryContext(
        error or ProviderTimeout("Silent."), targets, range(targets) if able is None else able, shown, left_s
    )


def refusal(code: str, retry_after_s: float | None = None) -> ProviderRefused:
    return ProviderRefused("No.", code=code, retry_after_s=retry_after_s)


def after(found: RetryDecision | None) -> float:
    """Return the pause before the next attempt, which must exist."""
    assert found is not None
    return found.after_s


# The meaning of an error.


def test_a_permanent_failure_is_final_whatever_its_code() -> None:
    assert decide(failure(PermanentFailure("provider_timeout", "No.")), Progress(), BUDGET, 0) is None


def test_a_function_that_asks_for_a_later_attempt_gets_at_least_its_pause() -> None:
    assert after(decide(failure(RetryLater(7)), Progress(), BUDGET, 0)) == 7


def test_every_code_of_a_refusal_has_its_classification() -> None:
    assert REFUSALS.keys() <= CLASSIFICATIONS.keys()


@pytest.mark.parametrize(("code", "classification"), CLASSIFICATIONS.items())
def test_a_failure_that_is_never_retried_is_never_called_retryable(code: str, classification: object) -> None:
    if code in REFUSALS:
        assert REFUSALS[code][1] == (CLASSIFICATIONS[code].failure_class is not FailureClass.DETERMINISTIC)


@pytest.mark.parametrize("kind", [OutputTooLarge, BrokenJob, Cancelled, DeadlinePassed, InternalError, PoisonJob])
def test_a_failure_without_a_providers_fault_is_final(kind: type[AttemptFailed]) -> None:
    error = kind("It is so.")

    assert classify(error).failure_class is FailureClass.DETERMINISTIC
    assert decide(failure(error, targets=2), Progress(), BUDGET, 0) is None


@pytest.mark.parametrize("kind", [ProviderTimeout, ProviderUnreachable, ProviderTruncated, CircuitOpen])
def test_a_transient_failure_is_retried(kind: type[AttemptFailed]) -> None:
    assert decide(failure(kind("Not now.")), Progress(), BUDGET, 0.5) == RetryDecision(
        0.5 * BACKOFF_FIRST_S, Progress(failures=1, rounds=1)
    )


def test_garbage_is_tried_again_once() -> None:
    once = decide(failure(ProviderGarbage("?")), Progress(), BUDGET, 0)

    assert once == RetryDecision(0, Progress(failures=1, rounds=1, garbage=(0,)))
    assert decide(failure(ProviderGarbage("?")), once.progress, BUDGET, 0) is None


def test_garbage_of_two_targets_is_an_accident_of_each() -> None:
    elsewhere = decide(failure(ProviderGarbage("?"), targets=2), Progress(), BUDGET, 0)

    assert elsewhere is not None
    assert decide(failure(ProviderGarbage("?"), targets=2), elsewhere.progress, BUDGET, 0) == RetryDecision(
        0, Progress(failures=2, target=0, rounds=1, garbage=(0, 1))
    )


def test_a_provider_that_refuses_to_continue_may_answer_anew() -> None:
    refused = failure(refusal("invalid_request"), able=range(0), shown=7)

    assert decide(replace(refused, of_the_rest=True), Progress(), BUDGET, 0) == RetryDecision(
        0, Progress(failures=1, rounds=1)
    )
    assert decide(refused, Progress(), BUDGET, 0) is None


@pytest.mark.parametrize(
    "code",
    [
        code
        for code, classification in CLASSIFICATIONS.items()
        if classification.failure_class is FailureClass.DETERMINISTIC
    ],
)
def test_a_deterministic_refusal_is_never_tried_again_at_the_same_target(code: str) -> None:
    assert decide(failure(refusal(code)), Progress(), BUDGET, 0) is None
    elsewhere = decide(failure(refusal(code), targets=2), Progress(), BUDGET, 0)
    if CLASSIFICATIONS[code].elsewhere:
        assert elsewhere == RetryDecision(0, Progress(failures=1, target=1, excluded=(0,)))
        assert decide(failure(refusal(code), targets=2), elsewhere.progress, BUDGET, 0) is None
    else:
        assert elsewhere is None


# Which target is next, and when.


def test_the_targets_of_a_chain_are_tried_in_turn_without_a_pause_and_a_round_is_followed_by_one() -> None:
    progress, tried, pauses = Progress(), [], []
    for _ in range(5):
        again = decide(failure(targets=3), progress, Budget(9, 100), 0.5)
        assert again is not None
        progress = again.progress
        tried.append(progress.target)
        pauses.append(again.after_s)

    assert tried == [1, 2, 0, 1, 2]
    assert pauses == [0, 0, 0.5 * BACKOFF_FIRST_S, 0, 0]


def test_pauses_double_with_full_jitter_up_to_their_bound() -> None:
    longest = [after(decide(failure(left_s=1e9), Progress(rounds=rounds), BUDGET, 0.999)) for rounds in range(9)]

    assert [round(each / 0.999, 6) for each in longest] == [0.5, 1, 2, 4, 8, 16, BACKOFF_MOST_S, 30, 30]
    assert after(decide(failure(), Progress(rounds=5), BUDGET, 0.0)) == 0
    assert after(decide(failure(left_s=1e9), Progress(rounds=10**6), BUDGET, 1.0)) == BACKOFF_MOST_S


def test_a_rate_limited_target_gets_the_pause_that_it_asked_for() -> None:
    limited = refusal("rate_limit_exceeded", 7.0)

    assert after(decide(failure(limited), Progress(), BUDGET, 0.5)) == 7.0 + 0.5 * BACKOFF_FIRST_S
    assert after(decide(failure(limited, targets=2), Progress(), BUDGET, 0.5)) == 0
    assert decide(failure(limited, left_s=7.0), Progress(), BUDGET, 0.5) is None


def test_no_attempt_is_made_that_would_begin_after_the_deadline() -> None:
    assert decide(failure(left_s=0.4), Progress(), BUDGET, 0.9) is None
    assert decide(failure(left_s=0.4), Progress(), BUDGET, 0.7) is not None
    assert decide(failure(left_s=0.0, targets=2), Progress(), BUDGET, 0.0) is None


def test_attempts_have_an_end() -> None:
    assert decide(failure(), Progress(failures=1), BUDGET, 0) is not None
    assert decide(failure(), Progress(failures=2), BUDGET, 0) is None


def test_each_target_of_a_long_chain_gets_its_try() -> None:
    assert decide(failure(targets=5), Progress(failures=3, target=3), BUDGET, 0) is not None
    assert decide(failure(targets=5), Progress(failures=4, target=4), BUDGET, 0) is None


def test_a_target_that_can_continue_comes_before_targets_that_start_over() -> None:
    begun = failure(targets=3, able=range(2, 3), shown=40)

    assert decide(begun, Progress(), BUDGET, 0) == RetryDecision(0, Progress(failures=1, target=2))


def test_rolled_back_tokens_have_a_budget() -> None:
    begun = failure(able=range(0), shown=60)

    assert decide(begun, Progress(discarded_tokens=40), BUDGET, 0) is not None
    assert decide(begun, Progress(discarded_tokens=41), BUDGET, 0) is None


def test_continued_tokens_do_not_count_against_the_budget() -> None:
    assert decide(failure(shown=1_000), Progress(discarded_tokens=100), BUDGET, 0) is not None


def test_the_order_begins_at_the_next_target_and_leaves_out_the_excluded() -> None:
    assert order_of(4, Progress(target=2, excluded=(3,)), range(4)) == [2, 0, 1]
    assert order_of(4, Progress(target=2), {1}) == [1, 2, 3, 0]


# Lost workers.


def test_workers_that_are_lost_at_the_same_place_are_counted() -> None:
    once = after_loss(Progress(failures=2), 50)
    twice = after_loss(once, 50 + NEAR_DELTAS)

    assert once == Progress(failures=2, crashes=1, died_at=50)
    assert twice == Progress(failures=2, crashes=2, died_at=50 + NEAR_DELTAS)


def test_a_crash_at_another_position_resets_the_count_of_crashes() -> None:
    for deltas in (50 + NEAR_DELTAS + 1, 50 - NEAR_DELTAS - 1):
        assert after_loss(Progress(crashes=5, died_at=50), deltas).crashes == 1


def test_the_first_loss_is_the_first_wherever_it_was() -> None:
    assert after_loss(Progress(), 0).crashes == 1


# Pauses that a target asked for.


def test_a_pause_is_remembered_while_another_target_is_asked() -> None:
    first = decide(failure(refusal("rate_limit_exceeded", 30.0), targets=2, left_s=60), Progress(), BUDGET, 0.0)
    assert first is not None
    assert (first.progress.target, first.after_s) == (1, 0.0)

    then = decide(failure(refusal("upstream_auth"), targets=2, left_s=50), first.progress, Budget(9, 100), 0.0)

    assert then is not None
    assert (then.progress.target, then.after_s) == (0, 20.0)


def test_a_target_without_a_pause_is_asked_before_one_with_a_pause() -> None:
    progress = Progress(target=2, pauses=((0, 30.0),))

    again = decide(failure(targets=3, left_s=50), progress, Budget(9, 100), 0.0)

    assert again is not None
    assert (again.progress.target, again.after_s) == (1, 0.0)


def test_a_pause_that_is_over_counts_no_more() -> None:
    again = decide(failure(targets=2, left_s=20), Progress(target=1, pauses=((0, 30.0),)), Budget(9, 100), 0.0)

    assert again is not None
    assert (again.progress.target, again.after_s, again.progress.pauses) == (0, 0.0, ())


def test_a_pause_that_outlasts_the_job_ends_it() -> None:
    assert decide(failure(refusal("rate_limit_exceeded", 60.0), left_s=60), Progress(), BUDGET, 0.0) is None
