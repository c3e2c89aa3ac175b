"""Write the frames of a workflow's stream: those of its steps, each with the step's name and a cursor for all steps.

The cursor is the frame's `id:`, so that a reader resumes without a gap and without a repeat in any step. It has one
token for each step, in the workflow's order: the last event that was sent, or `x` for a step that has been sent to its
end. A number and `*` before a token repeat it: `2*x.1-17.9*0-1` has twelve steps.
Pure. Not here: reading the steps (gateway/streams/workflow_source.py).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from shared.model.errors import BadCursor
from shared.model.events import START, EventId, is_terminal, last_id, parse_id, split_frames
from shared.model.workflows import WorkflowStatus

END: Final = "end"
"""The cursor after the last event of a workflow."""
_DONE: Final = "x"
_TOKEN: Final = re.compile(r"(?:([1-9][0-9]{0,2})\*)?(x|[0-9]+-[0-9]+)", re.ASCII)

Positions = list[EventId | None]
"""The last event that was sent of each step; None for a step that has been sent to its end."""


def parse_workflow_cursor(text: str | None, steps: int) -> Positions | None:
    """Read a reader's cursor for this number of steps; None if nothing follows.

    As for a job, nothing, an empty text, `-1` or `0` are the start.

    Raises:
        BadCursor: it has another form, or another number of steps.
    """
    if text is None or text in ("", "0", "-1"):
        return [START] * steps
    if text == END:
        return None
    bad = BadCursor("The cursor must be the id of an event of this workflow's stream.", param="last_event_id")
    positions: Positions = []
    for token in text.split(".", steps):
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise bad
        position = None if found[2] == _DONE else parse_id(found[2])
        positions += [position] * int(found[1] or 1)
    if len(positions) != steps:
        raise bad
    return positions


def encode_workflow_cursor(positions: Iterable[EventId | None]) -> str:
    """Write the cursor with these positions."""
    return ".".join(_tokens(positions))


class WorkflowFrames:
    """The frames of one reader, whose positions move with each frame."""

    def __init__(self, names: Sequence[str], positions: Positions) -> None:
        """Begin behind these positions of the steps with these names."""
        self._names = names
        self._positions = positions

    def is_done(self, step: int) -> bool:
        """Return whether the step has been sent to its end."""
        return self._positions[step] is None

    def position(self, step: int) -> EventId:
        """Return the last event of the step that was sent, as long as it is not done."""
        return self._positions[step] or START

    def finish(self, step: int) -> None:
        """Count a step as sent to its end, although its log has no terminal event left to send."""
        self._positions[step] = None

    def frames(self, step: int, entry: bytes) -> bytes:
        """Return the frames of an entry of a step's log as frames of the workflow."""
        # Only the token of this step changes from frame to frame.
        before, after = _tokens(self._positions[:step]), _tokens(self._positions[step + 1 :])
        made = []
        for frame in split_frames(entry):
            head, data, rest = frame.split(b"\n", 2)
            if not rest.startswith(b"id: "):  # a gap: the cursor does not move
                made.append(self._frame(head, step, None, data))
                continue
            at = last_id(frame)
            self._positions[step] = None if is_terminal(frame) else at
            cursor = ".".join((*before, *_tokens(self._positions[step : step + 1]), *after))
            made.append(self._frame(head, step, at, data, cursor))
        return b"".join(made)

    def gone(self, step: int) -> bytes:
        """Return the frame of a step whose job is not stored any more: the rest of its events is missing."""
        self.finish(step)
        return self._frame(b"event: gap", step, None, b"data: null", encode_workflow_cursor(self._positions))

    def end(self, workflow_id: str, status: WorkflowStatus) -> bytes:
        """Return the last frame of the stream."""
        data = b'{"workflow":"%s","status":"%s"}' % (workflow_id.encode(), status.encode())
        return b"event: ended\ndata: %s\nid: %s\n\n" % (data, END.encode())

    def _frame(self, head: bytes, step: int, at: EventId | None, data: bytes, cursor: str = "") -> bytes:
        own_id = b"null" if at is None else b'"%d-%d"' % at
        wrapped = b'{"step":"%s","id":%s,"data":%s}' % (self._names[step].encode(), own_id, data[len(b"data: ") :])
        id_line = b"id: %s\n" % cursor.encode() if cursor else b""
        return b"%s\ndata: %s\n%s\n" % (head, wrapped, id_line)


def _tokens(positions: Iterable[EventId | None]) -> list[str]:
    tokens = []
    for position, group in groupby(positions):
        count, token = sum(1 for _ in group), _DONE if position is None else str(position)
        tokens.append(token if count == 1 else f"{count}*{token}")
    return tokens
