"""Whose turn it is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.lanes import Lane, Rota

weights = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def lanes_of(numbers: list[int]) -> list[Lane]:
    return [Lane(f"lane-{position}", weight) for position, weight in enumerate(numbers)]


def turns(rota: Rota, count: int, backlog: set[str] | None = None) -> list[str]:
    """Which lanes are served, where those in `backlog` (None: all) always have a job."""
    served = []
    for _ in range(count):
        name = next(name for name in rota.order() if backlog is None or name in backlog)
        rota.charge(name)
        served.append(name)
    return served


def test_five_three_one_is_served_evenly_spread() -> None:
    rota = Rota([Lane("high", 5), Lane("normal", 3), Lane("low", 1)])

    assert turns(rota, 9) == ["high", "normal", "high", "low", "high", "normal", "high", "normal", "high"]


@given(weights)
def test_under_backlog_each_round_gives_every_lane_exactly_its_weight(numbers: list[int]) -> None:
    rota = Rota(lanes_of(numbers))

    for _ in range(3):
        assert Counter(turns(rota, sum(numbers))) == {lane.name: lane.weight for lane in lanes_of(numbers)}


@given(weights, st.integers(0, 60))
def test_no_lane_is_ever_a_whole_turn_ahead_of_or_behind_its_share_for_long(numbers: list[int], count: int) -> None:
    served = Counter(turns(Rota(lanes_of(numbers)), count))

    for lane in lanes_of(numbers):
        assert abs(served[lane.name] - count * lane.weight / sum(numbers)) < len(numbers)


@given(weights)
def test_every_lane_is_always_asked(numbers: list[int]) -> None:
    rota = Rota(lanes_of(numbers))
    names = sorted(lane.name for lane in lanes_of(numbers))

    for _ in range(2 * sum(numbers)):
        assert sorted(rota.order()) == names
        rota.charge(rota.order()[0])


def test_an_empty_lane_costs_nothing() -> None:
    rota = Rota([Lane("busy"), Lane("empty", 100)])

    assert set(turns(rota, 50, backlog={"busy"})) == {"busy"}


def test_a_lane_that_was_empty_for_long_does_not_starve_the_others_afterwards() -> None:
    rota = Rota([Lane("busy"), Lane("idle")])
    turns(rota, 1000, backlog={"busy"})

    assert turns(rota, 6) == ["idle", "busy"] * 3


@given(weights, st.lists(st.sets(st.integers(0, 5)), max_size=60))
def test_after_any_history_of_empty_lanes_a_backlog_is_soon_shared_by_weight(
    numbers: list[int], history: list[set[int]]
) -> None:
    lanes = lanes_of(numbers)
    rota = Rota(lanes)
    for waiting in history:
        if backlog := {lane.name for position, lane in enumerate(lanes) if position in waiting}:
            turns(rota, 1, backlog)

    turns(rota, 2 * len(lanes) * sum(numbers))

    assert Counter(turns(rota, sum(numbers))) == {lane.name: lane.weight for lane in lanes}
