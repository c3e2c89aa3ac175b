"""Test the lanes: their names, their turns, and their claims to another slot."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.lanes import Lane, LaneScheduler, parse_lanes

HIGH, DEFAULT, LOW = Lane("high", 4), Lane("default", 2), Lane("low", 1)
SLOTS = 6

weights = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def lanes_of(numbers: list[int]) -> list[Lane]:
    return [Lane(f"lane-{position}", weight) for position, weight in enumerate(numbers)]


def turns(scheduler: LaneScheduler, count: int, backlog: set[str] | None = None) -> list[str]:
    """List the lanes in the order of their turns, if those in `backlog` (None: all) always have a job."""
    served = []
    for _ in range(count):
        name = next(name for name in scheduler.order() if backlog is None or name in backlog)
        scheduler.charge(name)
        scheduler.free(name)
        served.append(name)
    return served


def test_five_three_one_is_served_evenly_spread() -> None:
    scheduler = LaneScheduler([Lane("high", 5), Lane("normal", 3), Lane("low", 1)], SLOTS)

    assert turns(scheduler, 9) == ["high", "normal", "high", "low", "high", "normal", "high", "normal", "high"]


@given(weights)
def test_under_backlog_each_round_gives_every_lane_exactly_its_weight(numbers: list[int]) -> None:
    scheduler = LaneScheduler(lanes_of(numbers), SLOTS)

    for _ in range(3):
        assert Counter(turns(scheduler, sum(numbers))) == {lane.name: lane.weight for lane in lanes_of(numbers)}


@given(weights, st.integers(0, 60))
def test_no_lane_is_ever_a_whole_turn_ahead_of_or_behind_its_share_for_long(numbers: list[int], count: int) -> None:
    served = Counter(turns(LaneScheduler(lanes_of(numbers), SLOTS), count))

    for lane in lanes_of(numbers):
        assert abs(served[lane.name] - count * lane.weight / sum(numbers)) < len(numbers)


@given(weights)
def test_every_lane_is_always_asked(numbers: list[int]) -> None:
    scheduler = LaneScheduler(lanes_of(numbers), SLOTS)
    names = sorted(lane.name for lane in lanes_of(numbers))

    for _ in range(2 * sum(numbers)):
        assert sorted(scheduler.order()) == names
        name = scheduler.order()[0]
        scheduler.charge(name)
        scheduler.free(name)


def test_an_empty_lane_costs_nothing() -> None:
    scheduler = LaneScheduler([Lane("busy"), Lane("empty", 100)], SLOTS)

    assert set(turns(scheduler, 50, backlog={"busy"})) == {"busy"}


def test_a_lane_that_was_empty_for_long_does_not_starve_the_others_afterwards() -> None:
    scheduler = LaneScheduler([Lane("busy"), Lane("idle")], SLOTS)
    turns(scheduler, 1000, backlog={"busy"})

    assert turns(scheduler, 6) == ["idle", "busy"] * 3


@given(weights, st.lists(st.sets(st.integers(0, 5)), max_size=60))
def test_a_backlog_is_soon_shared_by_weight_after_any_history_of_empty_lanes(
    numbers: list[int], history: list[set[int]]
) -> None:
    lanes = lanes_of(numbers)
    scheduler = LaneScheduler(lanes, SLOTS)
    for waiting in history:
        if backlog := {lane.name for position, lane in enumerate(lanes) if position in waiting}:
            turns(scheduler, 1, backlog)

    turns(scheduler, 2 * len(lanes) * sum(numbers))

    assert Counter(turns(scheduler, sum(numbers))) == {lane.name: lane.weight for lane in lanes}


@given(
    st.lists(st.sets(st.sampled_from(["high", "default", "low"])), max_size=60),
    st.lists(st.sets(st.sampled_from(["high", "default", "low"])), min_size=9, max_size=9),
)
def test_a_lane_is_never_passed_over_for_longer_than_its_bound(history: list[set[str]], others: list[set[str]]) -> None:
    """Check the bounds: they are the largest that a search through all states of these three lanes finds."""
    for waiting, most in (("high", 2), ("default", 4), ("low", 8)):
        scheduler = LaneScheduler([HIGH, DEFAULT, LOW], SLOTS)
        for backlog in filter(None, history):
            turns(scheduler, 1, backlog)

        served = [turns(scheduler, 1, {waiting, *backlog})[0] for backlog in others]

        assert waiting in served[: most + 1]


def test_under_backlog_no_two_jobs_in_a_row_pass_over_high() -> None:
    served = turns(LaneScheduler([HIGH, DEFAULT, LOW], SLOTS), 70)

    assert all("high" in pair for pair in pairwise(served))


@given(st.integers(0, 20), st.integers(7, 40))
def test_a_high_job_that_comes_after_a_pause_is_the_next(busy: int, pause: int) -> None:
    scheduler = LaneScheduler([HIGH, DEFAULT, LOW], SLOTS)
    turns(scheduler, busy)
    turns(scheduler, pause, {"default", "low"})

    assert turns(scheduler, 1) == ["high"]


def test_a_lane_that_is_added_later_gets_its_share_from_then_on() -> None:
    scheduler = LaneScheduler([DEFAULT], SLOTS)
    turns(scheduler, 100)

    scheduler.add(LOW)

    assert Counter(turns(scheduler, 30)) == {"default": 20, "low": 10}


# Slots and caps.


def test_no_lane_is_offered_while_no_slot_is_free() -> None:
    scheduler = LaneScheduler([HIGH, LOW], 2)
    scheduler.charge("low")
    scheduler.charge("low")
    assert scheduler.order() == []

    scheduler.free("low")
    assert scheduler.order() == ["high", "low"]


def test_a_lane_at_its_cap_is_left_out_until_one_of_its_jobs_has_ended() -> None:
    scheduler = LaneScheduler([DEFAULT, Lane("low", 8, cap=1)], 5)
    scheduler.charge("low")
    assert scheduler.order() == ["default"]

    scheduler.charge("default")
    scheduler.free("low")
    assert set(scheduler.order()) == {"default", "low"}


def test_slots_stay_free_if_every_lane_is_at_its_cap() -> None:
    scheduler = LaneScheduler([Lane("default", 2, cap=1)], 5)
    scheduler.charge("default")

    assert scheduler.order() == []


caps = st.one_of(st.none(), st.integers(1, 4))
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.sets(st.integers(0, 3))), max_size=80)


@given(st.lists(st.tuples(st.integers(1, 9), caps), min_size=1, max_size=4), st.integers(1, 6), steps)
def test_a_free_slot_goes_to_a_waiting_job_unless_its_lane_is_at_its_cap(
    shapes: list[tuple[int, int | None]], slots: int, story: list[tuple[bool, int, set[int]]]
) -> None:
    """Compare with the plainest model: the slots each lane holds, and those it may hold."""
    lanes = [Lane(f"lane-{number}", weight, cap) for number, (weight, cap) in enumerate(shapes)]
    scheduler, held = LaneScheduler(lanes, slots), Counter[str]()
    for ends, which, waiting in story:
        if ends and (running := sorted(held.elements())):
            name = running[which % len(running)]
            scheduler.free(name)
            held[name] -= 1
            continue
        room = held.total() < slots
        may = {lane.name for lane in lanes if room and (lane.cap is None or held[lane.name] < lane.cap)}
        order = scheduler.order()
        assert (set(order), len(order)) == (may, len(may))
        backlog = {f"lane-{number}" for number in waiting}
        if name := next((name for name in order if name in backlog), ""):
            scheduler.charge(name)
            held[name] += 1


@given(weights, st.integers(1, 3), st.integers(0, 60))
def test_a_lane_that_was_at_its_cap_for_long_starves_no_other_lane_afterwards(
    numbers: list[int], cap: int, before: int
) -> None:
    capped = Lane("capped", 12, cap)
    others = lanes_of(numbers)
    scheduler = LaneScheduler([capped, *others], SLOTS)
    for _ in range(cap):
        scheduler.charge("capped")
    served = turns(scheduler, before, {lane.name for lane in others})
    assert "capped" not in served
    for _ in range(cap):
        scheduler.free("capped")

    turns(scheduler, 2 * len(scheduler.order()) * (12 + sum(numbers)))

    assert Counter(turns(scheduler, 12 + sum(numbers))) == {lane.name: lane.weight for lane in (capped, *others)}


# The lanes as text.


def test_lanes_are_read_in_their_order() -> None:
    assert parse_lanes(["high:4", "default:2", "low:1:20"]) == (HIGH, DEFAULT, Lane("low", 1, 20))
    assert parse_lanes(["default:1000", "a-b_9:1"]) == (Lane("default", 1000), Lane("a-b_9"))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], "one of the lanes must be default"),
        (["high:4"], "one of the lanes must be default"),
        (["default:1", "default:2"], "named only once"),
        (["default"], "name:weight or name:weight:cap"),
        (["default:x"], "name:weight or name:weight:cap"),
        (["default:1:"], "name:weight or name:weight:cap"),
        (["default:1:2:3"], "name:weight or name:weight:cap"),
        (["default:-1"], "name:weight or name:weight:cap"),
        (["default:1", "High:1"], "the first of them a letter"),
        (["default:1", "9th:1"], "the first of them a letter"),
        (["default:1", "x" * 33 + ":1"], "at most 32"),
        (["default:0"], "from 1 to 1000"),
        (["default:1001"], "from 1 to 1000"),
        (["default:1:0"], "at least 1 slot"),
    ],
)
def test_a_malformed_lane_is_refused_with_the_right_form(entries: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_lanes(entries)
