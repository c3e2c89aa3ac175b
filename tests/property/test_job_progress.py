"""Test that progress never goes backwards within an execution, and that only a completed job has 100 %."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared.model.events import EventId
from shared.model.job_progress import progress_of
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.model.progress_count import ReportSequence
from tests.unit.shared.model.test_job_progress import RUNNING

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e299, max_value=1e299)
COUNTS = st.integers(min_value=0, max_value=10**6)


@given(st.lists(st.tuples(NUMBERS.filter(lambda number: abs(number) < 1e300), st.none() | COUNTS | st.floats(0, 1e9))))
def test_the_reports_of_an_execution_never_go_backwards(reports: list[tuple[float, float | None]]) -> None:
    sequence, last = ReportSequence(1, 1), None
    for done, total in reports:
        percent = sequence.next(done, total, "").percent
        assert percent is None if last is None and percent is None else percent is not None
        if percent is not None:
            assert (last or 0) <= percent <= 99
        last = percent


@given(st.lists(COUNTS), COUNTS, st.integers(min_value=-2, max_value=10**6), st.sampled_from(State))
def test_a_chat_never_goes_backwards_and_reaches_100_at_its_end_only(
    seqs: list[int], expected: int, offset: int, status: State
) -> None:
    job = replace(RUNNING, status=status, progress=Progress(expected_tokens=expected, deltas_offset=offset))
    shown = [progress_of(replace(job, last=EventId(1, seq)), streams_text=True).percent for seq in sorted(seqs)]
    known = [percent for percent in shown if percent is not None]

    assert known == sorted(known)
    assert (100 in known) == (status is State.COMPLETED and bool(seqs))
    assert all(0 <= percent <= 100 for percent in known)
