"""Test how long a silent gateway is tried, and how often."""

import pytest

from gateway.client.model.retry_window import FIRST_DELAY_S, LONGEST_DELAY_S, RetryWindow


def test_a_gateway_that_was_never_there_is_not_waited_for() -> None:
    assert RetryWindow(0, 60).wait_s(100.0, 0.5) is None


def test_a_gateway_that_was_reached_before_is_waited_for() -> None:
    window = RetryWindow(0, 60)
    window.reached()

    assert window.wait_s(100.0, 1.0) == FIRST_DELAY_S


def test_the_delay_doubles_up_to_a_bound() -> None:
    window = RetryWindow(1000, 1000)

    delays = [window.wait_s(0, 1.0) for _ in range(40)]

    assert delays[:4] == [FIRST_DELAY_S * 2**n for n in range(4)]
    assert set(delays[10:]) == {LONGEST_DELAY_S}


@pytest.mark.parametrize(("chance", "part"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_the_later_half_of_a_delay_is_left_to_chance(chance: float, part: float) -> None:
    assert RetryWindow(60, 60).wait_s(0, chance) == FIRST_DELAY_S * part


def test_the_pause_that_the_gateway_asks_for_comes_first() -> None:
    assert RetryWindow(60, 60).wait_s(0, 1.0, asked_s=7.5) == 7.5


def test_the_window_ends_once_the_gateway_has_been_silent_for_so_long() -> None:
    window = RetryWindow(10, 10)

    assert window.wait_s(0, 1.0) is not None
    assert window.wait_s(9.9, 1.0) == pytest.approx(0.1)
    assert window.wait_s(10.0, 1.0) is None


def test_an_answer_renews_it() -> None:
    window = RetryWindow(10, 10)
    for now in range(0, 100, 6):
        assert window.wait_s(now, 1.0) == FIRST_DELAY_S
        assert window.silent_s(now + 1) == 1
        window.answered()
    assert window.silent_s(100) == 0


def test_a_refusal_by_a_reached_gateway_does_not_restart_the_window() -> None:
    window = RetryWindow(10, 10)
    window.wait_s(0, 1.0)
    window.reached()

    assert window.wait_s(10, 1.0) is None
