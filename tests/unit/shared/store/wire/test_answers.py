"""Test the parsed answers of the functions: each word becomes one type, and an unknown word is an error."""

import pytest

from shared.store.wire.answers import (
    ArqEntry,
    BeginRefusal,
    Behind,
    Busy,
    Empty,
    FinishAnswer,
    RetryLater,
    StopReason,
    StoredJob,
    TakeAnswer,
    Taken,
    Written,
    has_ended,
    parse_append_answer,
    parse_beat_answer,
    parse_finish_answer,
    parse_take_answer,
)


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"ok", Written()),
        (b"ok full", Written(tenant_full=True)),
        (b"ok children", Written(has_children=True)),
        (b"have", Written(repeated=True)),
        (b"have children", Written(repeated=True, has_children=True)),
        (b"have 7", Written(repeated=True)),
        (b"behind 12", Behind(12)),
        (b"fenced", StopReason.FENCED),
        (b"cancelled", StopReason.CANCELLED),
        (b"ended", StopReason.ENDED),
        (b"missing", StopReason.MISSING),
        (b"refused", StopReason.NOT_ALLOWED),
    ],
)
def test_a_word_of_a_function_becomes_one_answer(raw: bytes, answer: FinishAnswer) -> None:
    assert parse_finish_answer(raw) == answer


@pytest.mark.parametrize(
    ("index", "found", "answer"),
    [
        (1, (b"job", b"1700", 2, b"{}"), Taken("high", "job", 1700, ArqEntry(b"{}", 2))),
        (1, (b"job", b"1700", 1, None), Taken("high", "job", 1700, ArqEntry(None, 1))),
        (2, (b"job", b"1700", 0, None), Taken("low", "job", 1700)),
        (
            2,
            (b"job", b"1700", 1, b"{}", [b"status", b"queued"], b"[]"),
            Taken("low", "job", 1700, ArqEntry(b"{}", 1), StoredJob({b"status": b"queued"}, b"[]")),
        ),
        (0, (1500,), RetryLater(1.5)),
        (0, (0,), RetryLater(0.0)),
        (0, (-1,), Empty()),
    ],
)
def test_a_taken_job_names_its_lane_and_a_wait_its_seconds(
    index: int, found: tuple[bytes | int, ...], answer: TakeAnswer
) -> None:
    assert parse_take_answer(["high", "low"], index, found) == answer


def test_an_entry_that_found_no_memory_is_busy_for_a_reason() -> None:
    assert parse_append_answer(b"busy OOM command not allowed") == Busy("OOM command not allowed")
    assert parse_append_answer(b"behind 3") == Behind(3)


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="perhaps"):
        parse_finish_answer(b"perhaps 3")
    with pytest.raises(ValueError, match="perhaps"):
        parse_beat_answer(b"perhaps")


def test_a_heartbeat_stops_an_execution_unless_it_may_continue() -> None:
    assert parse_beat_answer(b"ok") is None
    assert parse_beat_answer(b"fenced") is StopReason.FENCED


@pytest.mark.parametrize("answer", [Written(), Written(repeated=True), StopReason.ENDED, StopReason.MISSING])
def test_a_job_has_ended_once_its_terminal_event_is_written(answer: FinishAnswer) -> None:
    assert has_ended(answer)


@pytest.mark.parametrize(
    "answer", [Behind(3), *(each for each in StopReason if each not in (StopReason.ENDED, StopReason.MISSING))]
)
def test_a_refused_terminal_event_does_not_end_a_job(answer: FinishAnswer) -> None:
    assert not has_ended(answer)


def test_an_execution_is_refused_for_a_job_that_has_ended() -> None:
    assert {refusal for refusal in BeginRefusal if refusal.job_has_ended} == {BeginRefusal.ENDED, BeginRefusal.MISSING}
