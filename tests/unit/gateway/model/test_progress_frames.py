"""Test the progress frames of one reader: at most four a second, without an id, and only when something changes."""

from dataclasses import replace

from gateway.model.progress_frames import ProgressFrames
from shared.model.events import EventId, EventType, decode_frame
from shared.model.jobs import Progress
from shared.model.lifecycle import State
from shared.model.progress_count import REPORT_EVERY_S
from tests.unit.shared.model.test_job_progress import QUEUED, RUNNING

HALF_OF_IT = EventId(1, 3)
JOB = replace(RUNNING, progress=Progress(expected_tokens=4))


def test_a_frame_has_the_progress_and_no_id() -> None:
    event = decode_frame(ProgressFrames(JOB, 0.0).frame(HALF_OF_IT, 0.0))

    assert (event.type, event.id) == (EventType.PROGRESS, None)
    assert event.json() == {"percent": 50, "stage": "running", "message": "2 tokens"}


def test_the_next_frame_is_due_after_a_pause() -> None:
    frames = ProgressFrames(JOB, 0.0)

    assert frames.is_due(0.0)
    frames.frame(HALF_OF_IT, 0.0)
    assert not frames.is_due(REPORT_EVERY_S / 2)
    assert frames.is_due(REPORT_EVERY_S)


def test_the_same_progress_is_shown_once() -> None:
    frames = ProgressFrames(JOB, 0.0)

    assert frames.frame(HALF_OF_IT, 0.0)
    assert frames.frame(HALF_OF_IT, 1.0) == b""
    assert frames.is_due(1.0)
    assert frames.frame(HALF_OF_IT.next(), 1.0)


def test_a_new_execution_needs_a_new_record() -> None:
    frames = ProgressFrames(QUEUED, 0.0)

    assert frames.is_outdated(HALF_OF_IT)
    frames.update(JOB)
    assert not frames.is_outdated(HALF_OF_IT)
    assert b'"percent":50' in frames.frame(HALF_OF_IT, 0.0)


def test_a_job_that_has_ended_meanwhile_shows_nothing() -> None:
    frames = ProgressFrames(JOB, 0.0)
    frames.update(replace(JOB, status=State.COMPLETED))

    assert frames.frame(HALF_OF_IT, 0.0) == b""
