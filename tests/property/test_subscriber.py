"""Invariant 3 against a plain list: whatever is lost, repeated, reordered or read slowly, a reader gets the log.

The model is a list of entries and a heap of messages on their way. Hypothesis decides what is appended, which messages
arrive, when the log is read in how large pages, and where the reader begins.
"""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.subscriber import Live, Phase, Subscriber, read_live
from shared.events import (
    START,
    EventId,
    EventType,
    after_cursor,
    encode_frame,
    encode_gap,
    first_id,
    last_id,
    split_frames,
)

Snapshot = tuple[list[bytes], EventId, EventId, bool, bool]

_NOW = 7
_PADDING = st.integers(0, 60)
_EVENTS = st.lists(_PADDING, min_size=1, max_size=4)


def frame(event: EventType, event_id: EventId, padding: int) -> bytes:
    return encode_frame(event, b'{"content":"%s"}' % (b"x" * padding), event_id)


class Reading(RuleBasedStateMachine):
    """One job's log, its live channel, and one reader."""

    @initialize(
        max_bytes=st.integers(1, 600),
        history=st.lists(_EVENTS, max_size=6),
        trim=st.integers(0, 3),
        cursor=st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 14)), st.integers(0, 40)),
    )
    def open(
        self, max_bytes: int, history: list[list[int]], trim: int, cursor: tuple[int, int] | int | None
    ) -> None:
        """A log with a past, perhaps without its head, and a cursor: none, any, or one that was really issued."""
        self.entries = [frame(EventType.QUEUED, EventId(0, 1), 0)]
        self.last = EventId(0, 1)
        self.in_flight: list[Live | None] = []
        self.over = False
        for number, paddings in enumerate(history):
            if number % 3 == 0:
                self.next_epoch(1)
            self.append(paddings)
        ids = [first_id(each) for entry in self.entries for each in split_frames(entry)]
        del self.entries[: min(trim, len(self.entries) - 1)]
        self.in_flight.clear()
        if isinstance(cursor, int):
            self.cursor = ids[cursor % len(ids)]
        else:
            self.cursor = START if cursor is None else EventId(*cursor)
        self.max_bytes = max_bytes
        self.subscriber = Subscriber(self.cursor, max_bytes=max_bytes)
        self.reply: Snapshot | None = None
        self.asked: EventId | None = None
        self.gap: bytes | None = None
        self.first_reply_came = False
        self.got = b""

    # The worker.

    def write(self, entry: bytes) -> None:
        self.entries.append(entry)
        self.last = last_id(entry)
        self.in_flight.append(read_live(entry))

    @precondition(lambda self: not self.over)
    @rule(paddings=_EVENTS)
    def append(self, paddings: list[int]) -> None:
        """Deltas, as one entry and one message."""
        ids = [EventId(self.last.epoch, self.last.seq + n) for n in range(1, len(paddings) + 1)]
        self.write(b"".join(frame(EventType.DELTA, i, padding) for i, padding in zip(ids, paddings, strict=True)))

    @precondition(lambda self: not self.over)
    @rule(skip=st.integers(1, 3))
    def next_epoch(self, skip: int) -> None:
        """The job is begun again: rollback and started, in one entry."""
        epoch = self.last.epoch + skip
        self.write(
            frame(EventType.ROLLBACK, EventId(epoch, 1), 0) + frame(EventType.STARTED, EventId(epoch, 2), 0)
        )

    @precondition(lambda self: not self.over)
    @rule(paddings=_EVENTS)
    def append_and_deliver(self, paddings: list[int]) -> None:
        """The ordinary case."""
        self.append(paddings)
        self.deliver_in_order()

    @precondition(lambda self: not self.over)
    @rule(taken_over=st.booleans(), luck=st.integers(0, 9))
    def end(self, taken_over: bool, luck: int = _NOW) -> None:
        """The terminal event, by the job's worker or by somebody in its place; seldom, since it is the last."""
        if luck != _NOW:
            return
        at = EventId(self.last.epoch + 1, 1) if taken_over else self.last.next()
        self.write(frame(EventType.COMPLETED, at, 0))
        self.over = True

    # The live channel.

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 50), again=st.booleans())
    def deliver(self, which: int, again: bool) -> None:
        """Any message that is under way arrives: in its turn or not, and perhaps once more later."""
        message = self.in_flight[which % len(self.in_flight)] if again else None
        if not again:
            message = self.in_flight.pop(which % len(self.in_flight))
        self.subscriber.offer(message)

    @precondition(lambda self: self.in_flight)
    @rule()
    def deliver_in_order(self) -> None:
        """Everything that is under way arrives as it should."""
        for message in self.in_flight:
            self.subscriber.offer(message)
        self.in_flight.clear()

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 50))
    def nudge(self, which: int) -> None:
        """A message was too large for the channel."""
        self.in_flight[which % len(self.in_flight)] = None

    @rule()
    def reconnect(self) -> None:
        """The connection broke: what was under way is lost, and the hub says so."""
        self.in_flight.clear()
        self.subscriber.lose()

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 50))
    def lose_silently(self, which: int) -> None:
        """A message is lost and nobody knows."""
        del self.in_flight[which % len(self.in_flight)]

    @rule()
    def check_tail(self) -> None:
        """The hub's timer compares reader and log."""
        if self.subscriber.behind(self.last):
            assert self.subscriber.position < self.last
            self.subscriber.lose()

    # The reader.

    @rule()
    def take(self) -> None:
        """The reader's socket has room."""
        self.got += self.subscriber.take()

    @precondition(lambda self: self.asked is None and self.subscriber.phase is Phase.REPLAY)
    @rule()
    def ask(self) -> None:
        """The reader, having taken what there was, asks the log."""
        if frames := self.subscriber.take():
            self.got += frames
        elif self.subscriber.phase is Phase.REPLAY:
            self.asked = self.subscriber.start_reading()

    @precondition(lambda self: self.asked is not None and self.reply is None)
    @rule()
    def read(self) -> None:
        """The server reads a page."""
        assert self.asked is not None
        self.reply = self.page(self.asked, self.max_bytes)

    @precondition(lambda self: self.reply is not None)
    @rule()
    def receive(self) -> None:
        """The page arrives."""
        assert self.reply is not None
        entries, earliest, latest, more, over = self.reply
        if not self.first_reply_came:
            self.first_reply_came = True
            self.gap = self.expected_gap(earliest, latest)
        self.asked = self.reply = None
        self.subscriber.replayed(entries, earliest, latest, more=more, over=over)

    @precondition(lambda self: self.asked is not None)
    @rule()
    def fail_to_read(self) -> None:
        """Redis is away."""
        self.asked = self.reply = None
        self.subscriber.stop_reading()

    @precondition(lambda self: self.asked is None)
    @rule()
    def catch_up(self) -> None:
        """The reader does what it does all the time: take what there is, else ask the log and wait for it."""
        self.take()
        if self.subscriber.phase is Phase.REPLAY:
            self.ask()
        if self.asked is not None:
            self.read()
            self.receive()

    def page(self, cursor: EventId, room: int) -> Snapshot:
        """What `read` of functions.lua answers."""
        after = [entry for entry in self.entries if last_id(entry) > cursor]
        sizes = itertools.accumulate(map(len, after), initial=0)
        entries = [entry for entry, before in zip(after, sizes, strict=False) if before < room]
        return entries, first_id(self.entries[0]), self.last, len(entries) < len(after), self.over

    def expected_gap(self, earliest: EventId, latest: EventId) -> bytes | None:
        """The frame that must come first, said in other words than the subscriber's."""
        head_is_gone = earliest != EventId(0, 1)
        missed = head_is_gone and self.cursor < earliest and self.cursor != (earliest.epoch, earliest.seq - 1)
        if missed or self.cursor > latest:
            return encode_gap(self.cursor, earliest, latest)
        return None

    # What must hold.

    @invariant()
    def what_waits_is_bounded(self) -> None:
        """Invariant 7: the room that was given, and one entry."""
        if not hasattr(self, "subscriber"):
            return
        pending = sum(map(len, self.subscriber._pending))
        held = sum(len(message.frames) for message in self.subscriber._held)
        assert pending + held <= self.max_bytes + max(map(len, self.entries))
        assert (pending, held) == (self.subscriber._pending_bytes, self.subscriber._held_bytes)

    @invariant()
    def what_was_got_is_the_beginning_of_what_should_be(self) -> None:
        """Invariant 3, at each moment."""
        if hasattr(self, "subscriber"):
            assert self.expected().startswith(self.got)

    def expected(self) -> bytes:
        """The log after the cursor; after a gap, all of it."""
        if self.gap is not None:
            return self.gap + b"".join(self.entries)
        return b"".join(after_cursor(entry, self.cursor) for entry in self.entries)

    def teardown(self) -> None:
        """However it went so far: once the job has ended, the tail check and the log bring every reader to the end."""
        if not hasattr(self, "subscriber"):
            return
        if not self.over:
            self.end(taken_over=False)
        self.in_flight.clear()
        if self.asked is not None:
            self.fail_to_read()
        while self.subscriber.phase is not Phase.CLOSED:
            self.check_tail()
            self.catch_up()
        assert self.got == self.expected()


Reading.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
test_a_reader_gets_exactly_the_log_after_its_cursor = Reading.TestCase
