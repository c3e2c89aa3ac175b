"""Test the frames of a workflow's stream: each names its step, and its id is a cursor for all steps."""

import pytest

from gateway.model.workflow_frames import END, WorkflowFrames, encode_workflow_cursor, parse_workflow_cursor
from shared.model.errors import BadCursor
from shared.model.events import START, EventId, EventType, encode_data, encode_frame, encode_gap
from shared.model.workflows import WorkflowStatus


def entry(*events: tuple[str, int]) -> bytes:
    return b"".join(encode_frame(event, encode_data({"n": seq}), EventId(1, seq)) for event, seq in events)


def test_each_frame_names_its_step_and_moves_the_cursor_of_that_step_only() -> None:
    frames = WorkflowFrames(["a", "b", "c"], [None, START, EventId(0, 1)])

    made = frames.frames(1, entry((EventType.DELTA, 1), ("rows", 2), (EventType.COMPLETED, 3)))

    assert made == (
        b'event: delta\ndata: {"step":"b","id":"1-1","data":{"n":1}}\nid: x.1-1.0-1\n\n'
        b'event: rows\ndata: {"step":"b","id":"1-2","data":{"n":2}}\nid: x.1-2.0-1\n\n'
        b'event: completed\ndata: {"step":"b","id":"1-3","data":{"n":3}}\nid: x.x.0-1\n\n'
    )
    assert [frames.is_done(step) for step in range(3)] == [True, True, False]
    assert frames.position(2) == EventId(0, 1)


def test_a_gap_of_a_step_moves_no_cursor() -> None:
    frames = WorkflowFrames(["a"], [EventId(1, 9)])

    made = frames.frames(0, encode_gap(EventId(1, 9), EventId(0, 1), EventId(1, 2)))

    assert made == (
        b'event: gap\ndata: {"step":"a","id":null,"data":{"requested":"1-9","earliest":"0-1","latest":"1-2"}}\n\n'
    )
    assert frames.position(0) == EventId(1, 9)


def test_a_step_that_is_not_stored_any_more_is_a_gap_that_is_not_repeated() -> None:
    frames = WorkflowFrames(["a", "b"], [START, START])

    assert frames.gone(1) == b'event: gap\ndata: {"step":"b","id":null,"data":null}\nid: 0-0.x\n\n'
    assert frames.is_done(1)


def test_the_last_frame_has_the_status_and_the_cursor_after_which_nothing_follows() -> None:
    made = WorkflowFrames([], []).end("wf_1", WorkflowStatus.FAILED)

    assert made == b'event: ended\ndata: {"workflow":"wf_1","status":"failed"}\nid: end\n\n'
    assert parse_workflow_cursor(END, 2) is None


@pytest.mark.parametrize("text", [None, "", "0", "-1"])
def test_a_cursor_for_the_start_is_that_of_each_step(text: str | None) -> None:
    assert parse_workflow_cursor(text, 3) == [START] * 3


def test_equal_neighbours_of_a_cursor_are_written_once() -> None:
    positions = [None, None, EventId(1, 17), *[EventId(0, 1)] * 9]

    assert encode_workflow_cursor(positions) == "2*x.1-17.9*0-1"
    assert parse_workflow_cursor("2*x.1-17.9*0-1", 12) == positions
    assert parse_workflow_cursor("x.x.1-17.4*0-1.5*0-1", 12) == positions


@pytest.mark.parametrize(
    "text",
    [
        *("1-1", "x.x.x", "3*x", "0*x.x.x", "02*x", "2*", "x.", ".x", "x.1", "x.y", "x.1-", "1000*x", "x,x", "²*x"),
        *("x.99999999999999999999999-1", "End", "x. x", "1*x.1*x.1*x"),
    ],
)
def test_a_cursor_of_another_form_or_workflow_is_refused(text: str) -> None:
    with pytest.raises(BadCursor) as refused:
        parse_workflow_cursor(text, 2)
    assert refused.value.param == "last_event_id"
