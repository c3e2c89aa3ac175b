"""Two minutes of a seeded run, and proof that its checks can fail."""

import hashlib
import json
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.model.events import Event, EventId, EventType, encode_data, encode_gap
from shared.process.child import start_child, stop_child
from tests.faults.fault_plan import KINDS as FAULT_KINDS
from tests.faults.schedule import AHEAD_S, QUEUE, VALKEY, plan
from tests.faults.score import Score
from tests.faults.transcript import Transcript
from tests.support.clocks import faketime_missing

SEED, SECONDS = 20262609, 120.0
SPARED_SEED, SPARED_SECONDS = 28, 8.0
# The time for jobs that were begun, and for the start of the fleet on a busy machine.
ENOUGH_S = 240.0
KINDS = {"kill", "crash", "stop", "freeze", "slow", "demote", "deny", "busy", "flush"} | (
    set() if faketime_missing else set(AHEAD_S)
)
TRUTH = ["one ", "two ", "two "]


@pytest.mark.timeout(SECONDS + ENOUGH_S + 30)
@pytest.mark.slow(140, "two minutes of faults")
@pytest.mark.endurance
async def test_two_minutes_of_faults_lose_nothing_repeat_nothing_and_leave_nothing_unended(tmp_path: Path) -> None:
    score, status = await scored(tmp_path, "--seed", str(SEED), "--seconds", str(SECONDS))

    assert score["problems"] == []
    assert (score["lost"], score["repeated"], score["unended"], score["open_calls"]) == (0, 0, 0, 0)
    assert score["accepted"] > 100
    assert score["tokens"] > 10_000
    assert score["continued"] and score["reconnects"] and score["frozen"]
    assert score["generated"] >= score["tokens"]
    assert {name for name in score["faults"] if name.startswith("upstream")} == {
        f"upstream {kind}" for kind in FAULT_KINDS
    }
    # A chat that meets a fault is cut off. On a busy machine each lasts longer, and meets more of them.
    assert score["chats_complete"] > score["chats"] / 4
    for server, own in ((VALKEY, "outage"), (QUEUE, "amnesia")):
        found = {name for name in score["faults"] if name.startswith(server)}
        assert found == {f"{server} {kind}" for kind in (*KINDS, own)}
    assert status == 0


@pytest.mark.timeout(SPARED_SECONDS + ENOUGH_S + 30)
@pytest.mark.slow(15, "eight seconds of faults, and a fleet")
async def test_nothing_is_forgotten_if_valkey_is_stopped_in_order_and_never_killed(tmp_path: Path) -> None:
    options = ("--seed", str(SPARED_SEED), "--seconds", str(SPARED_SECONDS), "--median", "10", "--spare-valkey")
    score, status = await scored(tmp_path, *options)

    assert score["problems"] == []
    assert (score["gaps"], score["forgotten"]) == (0, 0)
    assert score["faults"][f"{VALKEY} stop"]
    assert status == 0


async def scored(folder: Path, *options: str) -> tuple[dict[str, Any], int]:
    """Run `python -m tests.faults`; its score and its exit status."""
    shown, root = folder / "score.json", Path(__file__).parents[2]
    argv = [
        sys.executable,
        "-m",
        "tests.faults",
        *options,
        "--soak",
        "0",
        "--json",
        str(shown),
        "--keep",
        str(folder / "run"),
    ]
    process = await start_child(argv, env=_environment(root))
    try:
        status = await process.wait()  # the test's own time-out bounds it
    finally:
        await stop_child(process, 30.0)
    return json.loads(shown.read_text()), status


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


# The findings of the checks.


def delta(epoch: int, seq: int, text: str) -> Event:
    return Event(EventType.DELTA, EventId(epoch, seq), encode_data({"content": text}))


def end(epoch: int, seq: int, events: int, texts: list[str]) -> Event:
    digest = hashlib.sha256(b"".join(encode_data({"content": text}) for text in texts)).hexdigest()
    return Event(EventType.COMPLETED, EventId(epoch, seq), encode_data({"events": events, "sha256": digest}))


def whole() -> list[Event]:
    """Return a job that is begun, loses its worker and is begun again."""
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


def test_a_missing_rollback_event_shows_in_the_text() -> None:
    events = [event for event in whole() if event.type is not EventType.ROLLBACK]
    assert read(events).compare(TRUTH).repeated == 1


def test_an_answer_that_continues_has_no_difference_from_the_truth_either() -> None:
    queued, started = whole()[:2]
    resumed = Event(EventType.STARTED, EventId(2, 1), encode_data({"resumed_from": "1-2"}))
    rest = [delta(2, 2 + n, text) for n, text in enumerate(TRUTH[1:])]
    transcript = read([queued, started, delta(1, 2, TRUTH[0]), resumed, *rest, end(2, 4, 7, TRUTH)])
    found = transcript.compare(TRUTH)
    assert (found.lost, found.repeated, found.proven) == (0, 0, True)
    assert (transcript.continued, transcript.rollbacks) == (1, 0)


def test_a_transcript_is_whole_if_the_log_is_read_from_its_start_after_a_gap() -> None:
    gap = Event(EventType.GAP, None, encode_gap(EventId(1, 2), EventId(0, 1), EventId(0, 1)))
    transcript = read([*whole()[:3], gap, *whole()])
    assert transcript.gaps == 1
    found = transcript.compare(TRUTH)
    assert (found.lost, found.repeated, found.proven) == (0, 0, True)


@pytest.mark.parametrize(
    "broken",
    [
        *({"lost": 1}, {"repeated": 1}, {"ended": 4}, {"open_calls": 1}, {"problems": ["!"]}, {"gaps": 1}),
        *({"tokens": 0}, {"longest_stall_s": 31.0}, {"generated_twice": 20}),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_broken_promise_shows_in_the_score(broken: dict[str, Any]) -> None:
    counted = Score(1, 1.0, accepted=5, ended=5, tokens=900, generated=1_000, generated_twice=19)
    kept = replace(counted, longest_stall_s=29.0, stall_bound_s=30.0)
    assert kept.kept
    assert not replace(kept, **broken).kept


@pytest.mark.parametrize(("began", "kept"), [(9.9, False), (10.0, True), (25.0, True), (25.1, False)])
def test_tokens_generated_twice_are_excused_soon_after_valkey_was_killed(began: float, kept: bool) -> None:
    score = Score(1, 1.0, accepted=1, ended=1, tokens=1, generated=10, deadly_at=[10.0])
    score.generated_again(5, began)
    assert score.twice_share == 0.5
    assert score.kept is kept


def test_a_rollback_run_may_generate_everything_twice() -> None:
    assert Score(1, 1.0, "rollback", accepted=1, ended=1, tokens=1, generated=2, generated_twice=1).kept


def test_a_gap_does_not_break_the_promise_if_valkey_was_killed() -> None:
    assert Score(1, 1.0, accepted=1, ended=1, tokens=1, gaps=1, forgotten=1, deadly_at=[1.0]).kept


@pytest.mark.parametrize(("killed_at", "excused"), [(0.0, False), (9.0, True), (15.0, True), (21.0, False)])
def test_a_loss_is_excused_by_a_kill_between_the_last_event_and_it(killed_at: float, excused: bool) -> None:
    score = Score(1, 1.0, accepted=1, ended=1, tokens=1, gaps=1, deadly_at=[killed_at])
    score.record_loss("A reader got a gap", since=10.0, now=20.0)
    assert score.kept is excused


# The plan.


def test_a_seed_plans_the_same_faults_each_time_and_another_one_others() -> None:
    assert plan(1, 300) == plan(1, 300)
    assert plan(1, 300) != plan(2, 300)


def test_the_faults_of_one_part_come_one_after_the_other_and_within_the_time() -> None:
    for faults in plan(3, 600).values():
        assert faults
        assert all(former.at_s + former.lasts_s < later.at_s for former, later in pairwise(faults))
        assert all(0 < fault.at_s < 600 for fault in faults)


def test_each_kind_of_fault_happens_once_before_any_happens_again() -> None:
    for faults in plan(5, 600).values():
        kinds = {fault.kind for fault in faults}
        for start in range(0, len(faults) - len(kinds) + 1, len(kinds)):
            assert {fault.kind for fault in faults[start : start + len(kinds)]} == kinds


def test_two_minutes_have_room_for_each_fault_of_valkey() -> None:
    faults = plan(SEED, SECONDS, clocks=not faketime_missing)
    assert {fault.kind for fault in faults[VALKEY]} == {*KINDS, "outage"}
    assert {fault.kind for fault in faults[QUEUE]} == {*KINDS, "amnesia"}


def test_a_valkey_that_is_spared_is_never_killed() -> None:
    assert any(fault.forgets for fault in plan(4, 600)[VALKEY])
    assert not any(fault.forgets for fault in plan(4, 600, spare_valkey=True)[VALKEY])
