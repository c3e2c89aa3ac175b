"""Test the circuit breaker by examples. A property test (tests/property) covers any calls at any times."""

import pytest

from shared.model.bounds import BREAKER_FAILURES, BREAKER_GROUPS
from worker.model.breaker import (
    CLOSED,
    Circuit,
    CircuitState,
    FailedCall,
    Policy,
    given_back,
    is_idle,
    probed,
    reported,
    retry_at_ms,
    state_of,
)

POLICY = Policy(window_ms=1_000, buckets=4, min_calls=4, open_ms=500, open_most_ms=1_500, probes=2, probe_ms=300)
ANY = FailedCall("b", "any")


def fail(circuit: Circuit, group: str, requests: int, *, successes: dict[str, int] | None = None) -> Circuit:
    """Report failures of so many requests of a group."""
    failures = [FailedCall(group, f"{group}{number}") for number in range(requests)]
    return reported(circuit, successes or {}, failures, 0, POLICY)


def test_the_pause_of_a_circuit_that_never_recovers_has_a_bound() -> None:
    assert retry_at_ms(Circuit(opened_ms=0, reopened=10**9), POLICY) == POLICY.open_most_ms


def test_one_groups_failures_open_nothing_for_all() -> None:
    flooded = fail(CLOSED, "a", 100, successes={"b": 38})
    assert state_of(flooded, 0, POLICY) is CircuitState.CLOSED
    assert state_of(fail(flooded, "b", 1), 0, POLICY) is CircuitState.CLOSED
    assert state_of(fail(flooded, "b", 60), 0, POLICY) is CircuitState.OPEN


def test_without_groups_two_failed_requests_are_enough() -> None:
    assert state_of(fail(CLOSED, "", 4), 0, POLICY) is CircuitState.OPEN
    one = [FailedCall("", "the same")] * 100
    assert state_of(reported(CLOSED, {}, one, 0, POLICY), 0, POLICY) is CircuitState.CLOSED


def test_without_groups_the_next_trial_is_another_requests() -> None:
    failed = reported(Circuit(opened_ms=0), {}, [FailedCall("", "x")], 500, POLICY)
    assert probed(failed, FailedCall("", "x"), 1_500, POLICY) is None
    assert probed(failed, FailedCall("", "y"), 1_500, POLICY) is not None
    assert probed(failed, FailedCall("", "x"), 2_500, POLICY) is not None


def test_the_size_of_a_circuit_is_bounded() -> None:
    circuit = reported(CLOSED, {f"t{n}": 1 for n in range(1_000)}, [], 0, POLICY)
    circuit = fail(circuit, "a", 400)
    assert (len(circuit.counts), len(circuit.blamed)) == (BREAKER_GROUPS, BREAKER_FAILURES)


def test_a_circuit_opens_then_lets_a_trial_through_whose_success_closes_it() -> None:
    opened = fail(CLOSED, "", 4)

    assert [state_of(opened, at, POLICY) for at in (0, 499, 500)] == [
        CircuitState.OPEN,
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
    ]
    assert reported(opened, {"": 1}, [], 499, POLICY) == opened
    assert reported(opened, {"": 1}, [], 500, POLICY) == CLOSED


def test_a_trial_that_fails_opens_the_circuit_for_twice_as_long() -> None:
    again = reported(Circuit(opened_ms=0), {"a": 9}, [ANY], 500, POLICY)

    assert retry_at_ms(again, POLICY) == 500 + 2 * POLICY.open_ms


@pytest.mark.parametrize(
    ("failures", "then"), [([ANY], CircuitState.OPEN), ([], CircuitState.CLOSED)], ids=["failed", "succeeded"]
)
def test_a_trials_verdict_counts_though_the_clock_was_set_back_before_the_pause_was_over(
    failures: list[FailedCall], then: CircuitState
) -> None:
    trying = probed(Circuit(opened_ms=1_000), ANY, 1_500, POLICY)
    assert trying is not None

    judged = reported(trying, {} if failures else {"b": 1}, failures, 1_499, POLICY)

    assert (state_of(judged, 1_499, POLICY), judged.probes) == (then, ())


def test_concurrent_trials_are_bounded_and_a_returned_or_late_one_makes_room() -> None:
    one = probed(Circuit(opened_ms=0), ANY, 500, POLICY)
    assert one is not None
    both = probed(one, ANY, 600, POLICY)
    assert both is not None

    assert probed(both, ANY, 799, POLICY) is None
    assert probed(both, ANY, 800, POLICY) is not None
    assert given_back(both).probes == (900,)


def test_failures_are_forgotten_with_the_window() -> None:
    once = fail(CLOSED, "", 3)

    assert not is_idle(once, 999, POLICY)
    assert is_idle(once, 1_000, POLICY)
    later = reported(once, {}, [FailedCall("", "0")], 1_000, POLICY)
    assert (len(later.counts), len(later.blamed)) == (1, 1)


def test_an_open_circuit_is_kept_for_a_window_after_its_pause() -> None:
    assert [is_idle(Circuit(opened_ms=0), at, POLICY) for at in (1_499, 1_500)] == [False, True]


def test_another_process_reads_the_same_circuit() -> None:
    for circuit in (CLOSED, fail(CLOSED, "a", 2), Circuit((), (), 5, 2, ("a",), (7, 8))):
        assert Circuit.load(circuit.dump()) == circuit
