"""Test that a reader of a workflow which resumes anywhere, any number of times, gets each event of each step once."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.workflow_frames import WorkflowFrames, encode_workflow_cursor, parse_workflow_cursor
from shared.model.events import EventId, after_cursor, encode_data, encode_frame, first_id, is_terminal, split_frames

POSITIONS = st.lists(st.none() | st.builds(EventId, st.integers(0, 3), st.integers(0, 10**6)), min_size=1, max_size=256)


@given(POSITIONS)
def test_a_cursor_is_read_as_it_was_written(positions: list[EventId | None]) -> None:
    assert parse_workflow_cursor(encode_workflow_cursor(positions), len(positions)) == positions


def log_of(count: int) -> list[bytes]:
    """Return the frames of a step's log, the last of them its end."""
    events = ["delta"] * (count - 1) + ["completed"]
    return [encode_frame(event, encode_data(seq), EventId(1, seq)) for seq, event in enumerate(events, 1)]


@given(st.data(), st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_no_event_is_missed_or_repeated_however_often_the_stream_breaks(data: st.DataObject, sizes: list[int]) -> None:
    names = [f"s{number}" for number in range(len(sizes))]
    logs = [log_of(size) for size in sizes]
    got: dict[str, list[int]] = {name: [] for name in names}
    cursor: str | None = None
    while (positions := parse_workflow_cursor(cursor, len(names))) and any(each is not None for each in positions):
        frames = WorkflowFrames(names, positions)
        step = data.draw(st.sampled_from([n for n, each in enumerate(positions) if each is not None]))
        left = [frame for frame in logs[step] if after_cursor(frame, frames.position(step))]
        sent = list(split_frames(frames.frames(step, b"".join(left))))
        # The client has whole frames only, of those that were sent.
        for frame in sent[: data.draw(st.integers(1, len(sent)))]:
            _, line, id_line = frame.split(b"\n")[:3]
            event = json.loads(line.removeprefix(b"data: "))
            got[event["step"]].append(event["data"])
            cursor = id_line.removeprefix(b"id: ").decode()

    assert got == {name: list(range(1, size + 1)) for name, size in zip(names, sizes, strict=True)}
    assert all(is_terminal(log[-1]) and first_id(log[0]) == (1, 1) for log in logs)
