"""Give a receiver of webhooks fewer attempts while it keeps failing."""

import pytest

from worker.model.receiver_circuits import FAILURES, RECEIVERS, SLOTS, ReceiverCircuits
from worker.model.webhook_attempt import Attempted

HOST, NOW = "hooks.example.com", 1_000.0


def failed(times: int, status: int | None = None) -> ReceiverCircuits:
    circuits = ReceiverCircuits()
    for _ in range(times):
        circuits.record(HOST, Attempted(status), NOW)
    return circuits


def test_a_receiver_that_fails_now_and_then_keeps_its_slots() -> None:
    assert ReceiverCircuits().slots(HOST, NOW) == SLOTS
    assert failed(FAILURES - 1).slots(HOST, NOW) == SLOTS


@pytest.mark.parametrize("status", [None, 429, 500, 503])
def test_a_receiver_that_keeps_failing_is_not_called_then_gets_one_attempt_at_a_time(status: int | None) -> None:
    circuits = failed(FAILURES, status)
    assert [circuits.slots(HOST, NOW + after_s) for after_s in (0.0, 9.9, 10.0, 99.0)] == [0, 0, 1, 1]
    assert circuits.slots("other.example.com", NOW) == SLOTS


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 20.0), (2, 40.0), (4, 160.0), (5, 300.0), (1_000, 300.0)])
def test_each_further_failure_doubles_the_pause_up_to_five_minutes(failures: int, pause_s: float) -> None:
    circuits = failed(FAILURES + failures)
    assert [circuits.slots(HOST, NOW + pause_s - 0.1), circuits.slots(HOST, NOW + pause_s)] == [0, 1]


@pytest.mark.parametrize("status", [200, 302, 404, 410])
def test_an_answer_closes_the_circuit(status: int) -> None:
    circuits = failed(FAILURES)
    circuits.record(HOST, Attempted(status), NOW)
    assert circuits.slots(HOST, NOW) == SLOTS


def test_the_number_of_remembered_receivers_is_bounded() -> None:
    circuits = failed(FAILURES)
    for number in range(RECEIVERS - 1):
        circuits.record(f"{number}.example.com", Attempted(None), NOW)
    assert circuits.slots(HOST, NOW) == 0
    circuits.record("one-more.example.com", Attempted(None), NOW)
    assert circuits.slots(HOST, NOW) == SLOTS
