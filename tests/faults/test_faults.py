"""Two minutes of a seeded run, and proof that its checks can fail."""

import asyncio
import hashlib
import json
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.child import start_child, stop_child
from shared.events import Event, EventId, EventType, encode_data, encode_gap
from tests.faults.schedule import VALKEY, plan
from tests.faults.score import Score
from tests.faults.transcript import Transcript

SEED, SECONDS = 20261125, 120.0
# The load, the time that is left to what was begun, and the start of the fleet on a busy machine.
BOUND_S = SECONDS + 180.0
TRUTH = ["one ", "two ", "two "]


@pytest.mark.timeout(BOUND_S + 30)
async def test_two_minutes_of_faults_lose_nothing_repeat_nothing_and_leave_nothing_unended(tmp_path: Path) -> None:
    shown, folder = tmp_path / "score.json", tmp_path / "run"
    options = ["--seed", str(SEED), "--seconds", str(SECONDS), "--json", str(shown), "--keep", str(folder)]
    root = Path(__file__).parents[2]
    process = await start_child([sys.executable, "-m", "tests.faults", *options], env=_environment(root))
    try:
        status = await asyncio.wait_for(process.wait(), BOUND_S)
    finally:
        await stop_child(process, 30.0)

    score: dict[str, Any] = json.loads(shown.read_text())
    assert score["problems"] == []
    assert (score["lost"], score["repeated"], score["unended"], score["open_calls"]) == (0, 0, 0, 0)
    assert score["accepted"] > 100
    assert score["tokens"] > 10_000
    assert score["rollbacks"] and score["reconnects"] and score["chats_complete"]
    assert status == 0


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


# What the checks find.


def delta(epoch: int, seq: int, text: str) -> Event:
    return Event(EventType.DELTA, EventId(epoch, seq), encode_data({"content": text}))


def end(epoch: int, seq: int, events: int, texts: list[str]) -> Event:
    digest = hashlib.sha256(b"".join(encode_data({"content": text}) for text in texts)).hexdigest()
    return Event(EventType.COMPLETED, EventId(epoch, seq), encode_data({"events": events, "sha256": digest}))


def whole() -> list[Event]:
    """A job that is begun, loses its worker and is begun again."""
    queued = Event(EventType.QUEUED, EventId(0, 1), b"{}")
    started = [Event(EventType.STARTED, EventId(epoch, epoch), b"{}") for epoch in (1, 2)]
    rollback = Event(EventType.ROLLBACK, EventId(2, 1), encode_data({"to": "0-1"}))
    deltas = [delta(2, 3 + n, text) for n, text in enumerate(TRUTH)]
    return [queued, started[0], delta(1, 2, "one "), rollback, started[1], *deltas, end(2, 6, 9, TRUTH)]


def read(events: list[Event]) -> Transcript:
    transcript = Transcript()
    for event in events:
        transcript.apply(event)
    return transcript


def test_a_whole_story_has_no_difference_from_the_truth() -> None:
    found = read(whole()).compare(TRUTH)
    assert (found.lost, found.repeated, found.proven) == (0, 0, True)


@pytest.mark.parametrize("missing", range(1, 9))
def test_an_event_that_is_missing_is_found_wherever_it_is(missing: int) -> None:
    found = read([event for n, event in enumerate(whole()) if n != missing]).compare(TRUTH)
    assert found.lost or not found.proven


@pytest.mark.parametrize("twice", range(9))
def test_an_event_that_comes_twice_is_found_wherever_it_is(twice: int) -> None:
    events = whole()
    assert read([*events[: twice + 1], *events[twice:]]).compare(TRUTH).repeated


def test_a_token_that_is_not_the_upstreams_is_found_though_its_id_is_in_order() -> None:
    events = [delta(2, 4, "zwei ") if event.id == EventId(2, 4) else event for event in whole()]
    found = read(events).compare(TRUTH)
    assert (found.lost, found.repeated, found.proven) == (1, 1, False)


def test_a_rollback_that_is_not_told_shows_in_the_text() -> None:
    events = [event for event in whole() if event.type is not EventType.ROLLBACK]
    assert read(events).compare(TRUTH).repeated == 1


def test_a_gap_forgets_everything_and_the_story_from_its_start_is_whole() -> None:
    gap = Event(EventType.GAP, None, encode_gap(EventId(1, 2), EventId(0, 1), EventId(0, 1)))
    transcript = read([*whole()[:3], gap, *whole()])
    assert transcript.gaps == 1
    found = transcript.compare(TRUTH)
    assert (found.lost, found.repeated, found.proven) == (0, 0, True)


@pytest.mark.parametrize(
    "broken",
    [{"lost": 1}, {"repeated": 1}, {"ended": 4}, {"open_calls": 1}, {"problems": ["!"]}, {"gaps": 1}, {"tokens": 0}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_promise_that_was_not_kept_is_told(broken: dict[str, Any]) -> None:
    kept = Score(1, 1.0, accepted=5, ended=5, tokens=100)
    assert kept.kept
    assert not replace(kept, **broken).kept


def test_a_gap_is_no_broken_promise_where_valkey_was_killed() -> None:
    assert Score(1, 1.0, accepted=1, ended=1, tokens=1, gaps=1, forgotten=1, may_forget=True).kept


# The plan.


def test_a_seed_plans_the_same_faults_each_time_and_another_one_others() -> None:
    assert plan(1, 300) == plan(1, 300)
    assert plan(1, 300) != plan(2, 300)


def test_the_faults_of_one_part_come_one_after_the_other_and_within_the_time() -> None:
    for faults in plan(3, 600).values():
        assert faults
        assert all(former.at_s + former.lasts_s < later.at_s for former, later in pairwise(faults))
        assert all(0 < fault.at_s < 600 for fault in faults)


def test_a_valkey_that_is_spared_is_never_killed() -> None:
    assert any(fault.forgets for fault in plan(4, 600)[VALKEY])
    assert not any(fault.forgets for fault in plan(4, 600, spare_valkey=True)[VALKEY])
