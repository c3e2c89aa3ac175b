"""Test the turns of readers: each has one in every period, and a tick has no more than its share."""

from collections import Counter

import pytest

from gateway.streams.heartbeat_schedule import Looks

READERS = range(10_000)


def test_each_reader_has_one_turn_in_a_period_and_a_tick_has_its_share() -> None:
    looks = Looks(7.5, 0.5, now=100.0)
    turns: Counter[int] = Counter()
    most = 0
    for tick in range(1, 31):
        due = looks.due(100.0 + 0.5 * tick)
        called = [reader for reader in READERS if looks.group_of(reader) in due]
        turns.update(called)
        most = max(most, len(called))

    assert set(turns.values()) == {2}
    assert most <= len(READERS) / 15 + 1


def test_a_tick_that_comes_too_early_has_nobodys_turn() -> None:
    looks = Looks(1.0, 0.5, now=0.0)

    assert looks.due(0.49) == frozenset()
    assert looks.due(0.5) == frozenset({0})
    assert looks.due(0.99) == frozenset()


def test_after_a_long_freeze_each_group_has_one_turn() -> None:
    looks = Looks(2.0, 0.5, now=0.0)

    assert looks.due(1000.0) == frozenset(range(4))
    assert looks.due(1000.1) == frozenset()


def test_a_clock_that_is_set_back_gives_no_turn_twice() -> None:
    looks = Looks(2.0, 0.5, now=0.0)
    looks.due(10.0)

    assert looks.due(9.0) == frozenset()


@pytest.mark.parametrize(("period_s", "tick_s", "groups"), [(0.5, 0.5, 1), (0.1, 0.5, 1), (7.5, 0.5, 15)])
def test_there_are_as_many_groups_as_ticks(period_s: float, tick_s: float, groups: int) -> None:
    looks = Looks(period_s, tick_s, now=0.0)

    assert looks.tick_s == pytest.approx(period_s / groups)
    assert {looks.group_of(number) for number in range(100)} == set(range(groups))
