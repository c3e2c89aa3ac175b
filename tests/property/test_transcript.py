"""Compare the client's transcript with a plain model: after any faults on the way, it ends with the log's answer.

The model is the log itself, a list of events: the answer is the text of its deltas after each rollback is applied.
Hypothesis decides the logged events, the broken connections, the repeated events, and how much of its end Redis loses.
"""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.client.model.transcript import Proof, Said, TakenBack, Transcript
from shared.model.events import START, EventId, EventType, encode_data, parse_id
from shared.model.sse_parser import SentEvent

TEXTS = st.sampled_from(["a", "b ", "naïve ", "\n", "🌊", ""])


class JobLog:
    """Act as the worker and Redis."""

    def __init__(self) -> None:
        self.events = [SentEvent("queued", b"{}", "0-1")]
        self._epoch = 0

    @property
    def last(self) -> EventId:
        return id_of(self.events[-1])

    def delta(self, text: str) -> None:
        self._write(EventType.DELTA, {"content": text})

    def roll_back(self, where: int) -> None:
        """Begin another execution; it keeps the events up to some event."""
        to = self.events[where % len(self.events)].id
        self._epoch = max(self._epoch, self.last.epoch) + 1
        self._write(EventType.ROLLBACK, {"to": to}, EventId(self._epoch, 1))

    def forget(self, count: int) -> None:
        """Lose the last events, as a killed Redis does; the next execution's ids are new."""
        del self.events[max(1, len(self.events) - count) :]
        self.roll_back(0)

    def finish(self) -> None:
        """Write the terminal event, with its proof."""
        digest = hashlib.sha256(b"".join(event.data for event in self.surviving())).hexdigest()
        self._write(EventType.COMPLETED, {"events": len(self.events) + 1, "sha256": digest})

    def surviving(self) -> list[SentEvent]:
        """Return the deltas that no rollback removed."""
        kept: list[SentEvent] = []
        for event in self.events:
            if event.name == EventType.DELTA:
                kept.append(event)
            elif event.name == EventType.ROLLBACK:
                to = parse_id(json.loads(event.data)["to"])
                kept = [delta for delta in kept if id_of(delta) <= to]
        return kept

    def after(self, cursor: EventId) -> list[SentEvent]:
        """Return the gateway's events after this cursor: a gap and the whole log if the log does not hold it."""
        if cursor != START and str(cursor) not in {event.id for event in self.events}:
            return [SentEvent("gap", b"{}", None), *self.events]
        return [event for event in self.events if id_of(event) > cursor]

    def _write(self, name: EventType, data: object, event_id: EventId | None = None) -> None:
        at = event_id or EventId(max(self._epoch, self.last.epoch), self.last.seq + 1)
        self.events.append(SentEvent(name.value, encode_data(data), str(at)))


def id_of(event: SentEvent) -> EventId:
    assert event.id is not None
    return parse_id(event.id)


class Screen:
    """Show the text that results if each change is carried out."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.text = ""

    def hear(self, event: SentEvent) -> None:
        for change in self._transcript.apply(event):
            if isinstance(change, TakenBack):
                self.text = "".join(said.text for said in self._transcript.said)
            elif isinstance(change, Said):
                self.text += change.text


STEPS = st.one_of(
    st.tuples(st.just("delta"), TEXTS),
    st.tuples(st.just("roll_back"), st.integers(0, 30)),
    st.tuples(st.just("forget"), st.integers(0, 5)),
    st.tuples(st.just("read"), st.integers(0, 10)),
    st.tuples(st.just("repeat"), st.integers(0, 30)),
)


@given(st.lists(STEPS, max_size=40))
def test_the_transcript_ends_with_the_text_of_the_log(steps: list[tuple[str, int | str]]) -> None:
    log, transcript = JobLog(), Transcript()
    screen = Screen(transcript)
    for step, value in steps:
        if step == "read":  # a connection, and how much comes before it breaks
            for event in log.after(transcript.cursor)[: int(value)]:
                screen.hear(event)
        elif step == "repeat":
            event = log.events[int(value) % len(log.events)]
            if id_of(event) <= transcript.cursor:
                screen.hear(event)
        elif step == "delta":
            log.delta(str(value))
        else:
            getattr(log, step)(int(value))
    log.finish()

    for event in log.after(transcript.cursor):
        screen.hear(event)

    said = "".join(json.loads(event.data)["content"] for event in log.surviving())
    assert transcript.text == said
    assert screen.text == said
    assert transcript.proof is Proof.WHOLE
    assert transcript.end is not None
