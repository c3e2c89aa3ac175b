"""Test invariant 3 against a plain list: a reader gets the log despite lost, repeated, reordered or slow messages.

The model is a list of entries and a list of messages on their way. Hypothesis decides which entries are appended, which
messages arrive, when the log is read in how large pages, and at which event the reader begins.
"""

import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from gateway.model.subscriber import Live, Phase, Subscriber, read_live
from shared.model.events import (
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

Snapshot = tuple[list[bytes], EventId, EventId, bool, bool, bool]


class JobLog:
    """Hold the worker's side: a log, and the live messages that are on their way."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.ids: list[EventId] = []
        self.in_flight: list[Live | None] = []
        self.over = False
        self._write(frame(EventType.QUEUED, EventId(0, 1), 0))

    @property
    def last(self) -> EventId:
        return self.ids[-1]

    def deltas(self, number: int) -> None:
        """Generate one to four deltas of some size, as one entry and one message."""
        seqs = range(self.last.seq + 1, self.last.seq + 2 + number % 4)
        self._write(*(frame(EventType.DELTA, EventId(self.last.epoch, seq), number % 61) for seq in seqs))

    def begin_again(self, number: int) -> None:
        """Begin another execution: rollback and started in one entry, sometimes of an epoch that skips some."""
        epoch = self.last.epoch + 1 + number % 3
        rollback = frame(EventType.ROLLBACK, EventId(epoch, 1), 0)
        self._write(rollback, frame(EventType.STARTED, EventId(epoch, 2), 0))

    def end(self, number: int) -> None:
        """Write the terminal event, by the job's worker or, under an epoch of its own, by another process."""
        at = EventId(self.last.epoch + 1, 1) if number % 2 else self.last.next()
        self._write(frame(EventType.COMPLETED, at, 0))
        self.over = True

    def page(self, cursor: EventId, room: int) -> Snapshot:
        """Return the answer of `read` of shared/store/functions."""
        read = bisect.bisect_right(self.entries, cursor, key=last_id)
        after = self.entries[read:]
        sizes = itertools.accumulate(map(len, after), initial=0)
        entries = [entry for entry, before in zip(after, sizes, strict=False) if before < room]
        return entries, self.ids[0], self.last, cursor in self.ids, len(entries) < len(after), self.over

    def forget(self, count: int) -> None:
        """Lose the first entries, and all messages."""
        del self.entries[:count]
        self.ids = [first_id(each) for entry in self.entries for each in split_frames(entry)]
        self.in_flight.clear()

    def _write(self, *frames: bytes) -> None:
        entry = b"".join(frames)
        self.entries.append(entry)
        self.ids += map(first_id, frames)
        self.in_flight.append(read_live(entry))


class World:
    """Run one job, one reader, and every event between them. Each step takes a number to choose by."""

    def __init__(self, log: JobLog, cursor: EventId, max_bytes: int) -> None:
        self.log = log
        self.cursor = cursor
        self.max_bytes = max_bytes
        self.subscriber = Subscriber(cursor, max_bytes=max_bytes)
        self.got = b""
        self.gap: bytes | None = None
        self.asked: EventId | None = None
        self.reply: Snapshot | None = None
        self.gap_of_reply: bytes | None = None
        self.replies = 0
        self.lost_silently = False
        self._after_cursor = b""
        self._seen = 0

    # The worker.

    def append(self, number: int) -> None:
        if not self.log.over:
            self.log.deltas(number)

    def begin_again(self, number: int) -> None:
        if not self.log.over:
            self.log.begin_again(number)

    def end(self, number: int) -> None:
        if not self.log.over and number > 200:
            self.log.end(number)

    # The live channel.

    def deliver_all(self, _: int) -> None:
        for message in self.log.in_flight:
            self.subscriber.offer(message)
        self.log.in_flight.clear()

    def deliver_one(self, number: int) -> None:
        """Deliver any of the messages, in its turn or not."""
        if messages := self.log.in_flight:
            self.subscriber.offer(messages.pop(number % len(messages)))

    def deliver_twice(self, number: int) -> None:
        """Deliver a message now, and perhaps once more later."""
        if messages := self.log.in_flight:
            self.subscriber.offer(messages[number % len(messages)])

    def nudge(self, number: int) -> None:
        """Replace a message by a nudge, as if it were too large for the channel."""
        if messages := self.log.in_flight:
            messages[number % len(messages)] = None

    def lose_one(self, number: int) -> None:
        """Lose a message without a notice."""
        if messages := self.log.in_flight:
            del messages[number % len(messages)]
            self.lost_silently = True

    def reconnect(self, _: int) -> None:
        """Lose all messages on their way; the hub reports it."""
        self.log.in_flight.clear()
        self.subscriber.lose()

    def check_tail(self, _: int) -> None:
        if self.subscriber.behind(self.log.last):
            assert self.subscriber.position < self.log.last
            self.subscriber.lose()

    # The reader takes the available bytes; if there are none and it does not follow the live feed, it reads the log.

    def take(self, _: int) -> None:
        if self.asked is None:
            self.got += self.subscriber.take()

    def ask(self, number: int) -> None:
        self.take(number)
        if self.asked is None and self.subscriber.phase is Phase.REPLAY:
            self.take(number)
            self.asked = self.subscriber.start_reading()

    def read(self, _: int) -> None:
        """Read a page on the server, between the request and the arrival of the answer."""
        if self.asked is not None and self.reply is None:
            self.reply = self.log.page(self.asked, self.max_bytes)
            # The log may go past the cursor before the answer arrives.
            self.gap_of_reply = expected_gap(self.cursor, self.log.ids, self.reply[2])

    def receive(self, _: int) -> None:
        if self.reply is None:
            return
        entries, earliest, latest, known, more, over = self.reply
        if not self.replies:
            self.gap = self.gap_of_reply
        self.replies += 1
        self.asked = self.reply = None
        self.subscriber.replayed(entries, earliest, latest, known=known, more=more, over=over)

    def fail_to_read(self, _: int) -> None:
        if self.asked is not None:
            self.asked = self.reply = None
            self.subscriber.stop_reading()

    def catch_up(self, number: int) -> None:
        for step in (self.ask, self.read, self.receive, self.take):
            step(number)

    # Invariants.

    def check(self) -> None:
        """Check invariants 3 and 7 at any moment: only a silently lost message leaves a live reader behind."""
        assert self.expected().startswith(self.got)
        pending = sum(map(len, self.subscriber._pending))
        held = sum(len(message.frames) for message in self.subscriber._held)
        assert pending + held <= self.max_bytes + max(map(len, (*self.log.entries, self.gap or b"")))
        assert (pending, held) == (self.subscriber._pending_bytes, self.subscriber._held_bytes)

        self.lost_silently &= self.subscriber.position < self.log.last
        if self.subscriber.phase is Phase.LIVE and not self.log.in_flight and not self.lost_silently:
            assert self.subscriber.position == self.log.last

    def expected(self) -> bytes:
        """Return the log after the cursor; after a gap, all of it."""
        if self.gap is not None:
            return self.gap + b"".join(self.log.entries)
        # Only the entries since the last call: to begin anew each time would cost half a minute.
        self._after_cursor += b"".join(after_cursor(entry, self.cursor) for entry in self.log.entries[self._seen :])
        self._seen = len(self.log.entries)
        return self._after_cursor

    def finish(self) -> None:
        """End the job in any case: its last message is lost, and the tail check brings the reader to the end."""
        if not self.log.over:
            self.log.end(0)
        self.log.in_flight.clear()
        self.lost_silently = True
        while self.subscriber.phase is not Phase.CLOSED:
            self.check_tail(0)
            self.catch_up(0)
            self.check()


Step = Callable[[World, int], None]
# The ordinary steps more often, since faults occur on their way.
STEPS: tuple[Step, ...] = (
    *(World.append, World.append, World.append, World.deliver_all, World.deliver_all, World.catch_up, World.catch_up),
    *(World.begin_again, World.end, World.deliver_one, World.deliver_twice, World.nudge, World.lose_one),
    *(World.reconnect, World.check_tail, World.take, World.ask, World.read, World.receive, World.fail_to_read),
)


def frame(event: EventType, event_id: EventId, padding: int) -> bytes:
    return encode_frame(event, b'{"content":"%s"}' % (b"x" * padding), event_id)


def expected_gap(cursor: EventId, ids: list[EventId], latest: EventId) -> bytes | None:
    """Return the frame that must come first, computed in another way than the subscriber's."""
    before_the_head = EventId(ids[0].epoch, ids[0].seq - 1)
    return None if cursor in (before_the_head, *ids) else encode_gap(cursor, ids[0], latest)


@dataclass(frozen=True)
class Beginning:
    """Hold a log's past, the part of it that is lost, and a reader's cursor and bound."""

    past: tuple[int, ...]
    forgotten: int
    cursor: EventId
    max_bytes: int

    def log(self) -> JobLog:
        """Write the whole past."""
        log = JobLog()
        for number in self.past:
            (log.begin_again if number % 3 == 0 else log.deltas)(number)
        return log

    def world(self) -> World:
        """Lose the forgotten part, and let the reader begin."""
        log = self.log()
        log.forget(min(self.forgotten, len(log.entries) - 1))
        return World(log, self.cursor, self.max_bytes)


@st.composite
def beginnings(draw: st.DrawFn) -> Beginning:
    """Generate a log with a past, perhaps without its head, and a cursor: none, an id that was issued, or any other."""
    whole = Beginning(tuple(draw(st.lists(st.integers(0, 255), max_size=5))), 0, START, draw(st.integers(1, 800)))
    any_id = st.builds(EventId, st.integers(0, 4), st.integers(0, 20))
    cursor = draw(st.one_of(st.just(START), st.sampled_from(whole.log().ids), any_id))
    return replace(whole, forgotten=draw(st.sampled_from((0, 0, 0, 1, 2))), cursor=cursor)


def script(*steps: Step) -> bytes:
    """Choose these steps, each with the number 0."""
    return bytes(byte for step in steps for byte in (STEPS.index(step), 0))


@settings(max_examples=500, deadline=None)
@given(beginnings(), st.binary(min_size=200, max_size=200))
# The cursor 0-9 is ahead of a log that ends at 0-8 when it is read. The log passes 0-9 before the answer arrives, or
# after it: the reader was promised the whole log either way.
@example(Beginning((7, 10), 0, EventId(0, 9), 800), script(World.ask, World.read, World.append, World.receive))
@example(Beginning((7, 10), 0, EventId(0, 9), 800), script(World.catch_up, World.append, World.catch_up))
# The gap's frame is longer than the bound and the only entry together.
@example(Beginning((), 0, EventId(0, 9), 1), script(World.ask, World.read, World.receive))
def test_a_reader_gets_exactly_the_log_after_its_cursor_whatever_happens(beginning: Beginning, choices: bytes) -> None:
    world = beginning.world()
    for choice, number in zip(choices[::2], choices[1::2], strict=False):
        step = STEPS[choice % len(STEPS)]
        note(f"{step.__name__} {number}")
        step(world, number)
        world.check()
    world.finish()
    assert world.got == world.expected()
