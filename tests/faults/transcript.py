"""One reader's view of a job's events, by the rules of the README, and how far it is from the truth. Pure.

It checks each event as it arrives (nothing twice, nothing left out inside an epoch), obeys `rollback` and `gap`, and in
the end compares with the upstream's tokens and with the proof in the terminal event.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from shared.model.events import START, TERMINAL_EVENTS, Event, EventId, EventType, parse_id


@dataclass
class Transcript:
    """One reader's view. `cursor` is its next `Last-Event-ID`."""

    cursor: EventId = START
    gaps: int = 0
    rollbacks: int = 0
    continued: int = 0
    events: int = 0
    lost_events: int = 0
    repeated_events: int = 0
    end: Event | None = None
    _deltas: list[tuple[EventId, Event]] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """The next event came."""
        if event.id is None:
            self._forget()
            return
        self.events += 1
        if event.id <= self.cursor or self.end is not None:
            self.repeated_events += 1
        elif event.id.epoch != self.cursor.epoch:
            self.lost_events += event.id.seq - 1
        else:
            self.lost_events += event.id.seq - self.cursor.seq - 1
        self.cursor = event.id
        if event.type is EventType.DELTA:
            self._deltas.append((event.id, event))
        elif event.type is EventType.STARTED:
            self.continued += event.json().get("resumed_from") is not None
        elif event.type is EventType.ROLLBACK:
            self.rollbacks += 1
            to = parse_id(event.json()["to"])
            while self._deltas and self._deltas[-1][0] > to:
                self._deltas.pop()
        elif event.type in TERMINAL_EVENTS:
            self.end = event

    def start_over(self) -> None:
        """The job was forgotten, and submitted again."""
        self.end = None
        self._forget()

    def _forget(self) -> None:
        self.gaps += 1
        self.events = 0
        self.cursor = START
        self._deltas.clear()

    def compare(self, truth: Sequence[str]) -> "Difference":
        """Return how this differs from the upstream's answer, token by token."""
        reported = [event.json().get("content", "") for _, event in self._deltas]
        lost = repeated = 0
        if reported != list(truth):
            same = sum(
                block.size for block in SequenceMatcher(None, truth, reported, autojunk=False).get_matching_blocks()
            )
            lost, repeated = len(truth) - same, len(reported) - same
        return Difference(lost + self.lost_events, repeated + self.repeated_events, self._proven())

    def _proven(self) -> bool:
        if self.end is None or self.end.type is not EventType.COMPLETED:
            return False
        proof = self.end.json()
        digest = hashlib.sha256(b"".join(event.data for _, event in self._deltas)).hexdigest()
        return bool(proof["sha256"] == digest and proof["events"] == self.events)


@dataclass(frozen=True, slots=True)
class Difference:
    """Tokens and events that are missing or too many, and whether the terminal event proves the events read."""

    lost: int
    repeated: int
    proven: bool
