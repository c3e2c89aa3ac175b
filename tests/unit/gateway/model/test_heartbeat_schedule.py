"""Test the turns of readers: each has one in every period, and a tick has no more than its share."""

from collections import Counter

import pytest

from gateway.model.heartbeat_schedule import HeartbeatSchedule

READERS = range(10_000)


def test_each_reader_has_one_turn_in_a_period_and_a_tick_has_its_share() -> None:
    schedule = HeartbeatSchedule(7.5, 0.5, now=100.0)
    turns: Counter[int] = Counter()
    most = 0
    for tick in range(1, 31):
        due = schedule.due(100.0 + 0.5 * tick)
        called = [reader for reader in READERS if schedule.group_of(reader) in due]
        turns.update(called)
        most = max(most, len(called))

    assert set(turns.values()) == {2}
    assert most <= len(READERS) / 15 + 1


def test_an_early_tick_has_no_group_due() -> None:
    schedule = HeartbeatSchedule(1.0, 0.5, now=0.0)

    assert schedule.due(0.49) == frozenset()
    assert schedule.due(0.5) == frozenset({0})
    assert schedule.due(0.99) == frozenset()


def test_each_group_has_one_turn_after_a_long_freeze() -> None:
    schedule = HeartbeatSchedule(2.0, 0.5, now=0.0)

    assert schedule.due(1000.0) == frozenset(range(4))
    assert schedule.due(1000.1) == frozenset()


def test_a_clock_that_is_set_back_gives_no_turn_twice() -> None:
    schedule = HeartbeatSchedule(2.0, 0.5, now=0.0)
    schedule.due(10.0)

    assert schedule.due(9.0) == frozenset()


@pytest.mark.parametrize(("period_s", "tick_s", "groups"), [(0.5, 0.5, 1), (0.1, 0.5, 1), (7.5, 0.5, 15)])
def test_there_are_as_many_groups_as_ticks(period_s: float, tick_s: float, groups: int) -> None:
    schedule = HeartbeatSchedule(period_s, tick_s, now=0.0)

    assert schedule.tick_s == pytest.approx(period_s / groups)
    assert {schedule.group_of(number) for number in range(100)} == set(range(groups))
