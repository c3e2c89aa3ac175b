"""Test one reader's position: each rule of the hand-off between log and live feed, one test each."""

from gateway.model.subscriber import Live, Phase, Subscriber, read_live
from shared.model.events import START, EventId, EventType, encode_frame, encode_gap

FIRST = EventId(0, 1)
ROOM = 1000


def frame(epoch: int, seq: int, event: EventType = EventType.DELTA) -> bytes:
    return encode_frame(event, b'{"n":%d}' % seq, EventId(epoch, seq))


def entry(epoch: int, first: int, last: int) -> bytes:
    return b"".join(frame(epoch, seq) for seq in range(first, last + 1))


def end(epoch: int, seq: int) -> bytes:
    return frame(epoch, seq, EventType.COMPLETED)


def live(payload: bytes) -> Live:
    message = read_live(payload)
    assert message is not None
    return message


def phase_of(subscriber: Subscriber) -> Phase:
    """Return the phase through a call, or mypy would assume that it has not changed."""
    return subscriber.phase


def replay(
    subscriber: Subscriber,
    *entries: bytes,
    latest: EventId,
    known: bool = True,
    more: bool = False,
    over: bool = False,
) -> None:
    subscriber.start_reading()
    subscriber.replayed(entries, FIRST, latest, known=known, more=more, over=over)


def live_reader(*, max_bytes: int = ROOM) -> Subscriber:
    """Build a reader that has 0-1 and 1-1 and follows the live feed."""
    subscriber = Subscriber(START, max_bytes=max_bytes)
    replay(subscriber, frame(0, 1), frame(1, 1), latest=EventId(1, 1))
    subscriber.take()
    return subscriber


def test_a_live_message_is_read_with_the_ids_of_its_first_and_last_frame() -> None:
    assert live(entry(1, 3, 5)) == Live(EventId(1, 3), EventId(1, 5), entry(1, 3, 5), terminal=False)
    assert live(end(2, 9)).terminal


def test_an_empty_message_is_a_nudge() -> None:
    assert read_live(b"") is None


def test_a_reader_gets_the_log_and_then_follows_the_live_feed() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.start_reading() == START
    subscriber.replayed([frame(0, 1), entry(1, 1, 3)], FIRST, EventId(1, 3), known=True, more=False, over=False)
    assert phase_of(subscriber) is Phase.LIVE
    assert subscriber.position == EventId(1, 3)
    assert subscriber.take() == frame(0, 1) + entry(1, 1, 3)
    assert subscriber.offer(live(entry(1, 4, 5)))
    assert subscriber.offer(live(frame(1, 6)))
    assert subscriber.take() == entry(1, 4, 6)
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.LIVE


def test_a_cursor_inside_an_entry_gets_the_rest_of_it() -> None:
    subscriber = Subscriber(EventId(1, 2), max_bytes=ROOM)
    replay(subscriber, entry(1, 1, 4), latest=EventId(1, 4))
    assert subscriber.take() == entry(1, 3, 4)


def test_an_entry_that_the_reader_has_already_adds_nothing() -> None:
    subscriber = Subscriber(EventId(1, 4), max_bytes=ROOM)
    replay(subscriber, entry(1, 1, 4), latest=EventId(1, 4))
    assert subscriber.take() == b""
    assert subscriber.position == EventId(1, 4)


def test_a_message_that_comes_before_the_log_is_asked_is_left_to_the_log() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    assert not subscriber.offer(live(frame(0, 1)))
    replay(subscriber, frame(0, 1), latest=FIRST)
    assert subscriber.take() == frame(0, 1)


def test_messages_that_come_while_the_log_is_read_follow_it_in_order() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    subscriber.start_reading()
    assert not subscriber.offer(live(frame(1, 1)))  # the page has it too
    assert not subscriber.offer(live(frame(1, 2)))
    subscriber.replayed([frame(0, 1), frame(1, 1)], FIRST, EventId(1, 1), known=True, more=False, over=False)
    assert subscriber.take() == frame(0, 1) + entry(1, 1, 2)
    assert phase_of(subscriber) is Phase.LIVE


def test_a_repeated_message_is_dropped() -> None:
    subscriber = live_reader()
    assert not subscriber.offer(live(frame(1, 1)))
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.LIVE


def test_a_message_that_skips_one_sends_the_reader_to_the_log() -> None:
    subscriber = live_reader()
    assert subscriber.offer(live(frame(1, 3)))
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.start_reading() == EventId(1, 1)
    subscriber.replayed([entry(1, 2, 3)], FIRST, EventId(1, 3), known=True, more=False, over=False)
    assert subscriber.take() == entry(1, 2, 3)


def test_a_new_epoch_sends_the_reader_to_the_log() -> None:
    subscriber = live_reader()
    assert subscriber.offer(live(frame(2, 1)))
    assert phase_of(subscriber) is Phase.REPLAY


def test_a_nudge_sends_the_reader_to_the_log_once() -> None:
    subscriber = live_reader()
    assert subscriber.offer(None)
    assert phase_of(subscriber) is Phase.REPLAY
    assert not subscriber.offer(None)


def test_a_nudge_while_the_log_is_read_has_it_read_again() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.offer(None)
    subscriber.offer(live(frame(1, 3)))  # no use: the entries before the nudge's are missing
    subscriber.replayed([frame(0, 1)], FIRST, FIRST, known=True, more=False, over=False)
    assert phase_of(subscriber) is Phase.REPLAY
    replay(subscriber, entry(1, 1, 3), latest=EventId(1, 3))
    assert phase_of(subscriber) is Phase.LIVE
    assert subscriber.take() == frame(0, 1) + entry(1, 1, 3)


def test_a_reconnect_while_the_log_is_read_has_it_read_again() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    subscriber.start_reading()
    assert not subscriber.lose()
    subscriber.replayed([frame(0, 1)], FIRST, FIRST, known=True, more=False, over=False)
    assert phase_of(subscriber) is Phase.REPLAY


def test_a_reconnect_before_the_log_is_asked_changes_nothing() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    assert not subscriber.lose()
    replay(subscriber, frame(0, 1), latest=FIRST)
    assert phase_of(subscriber) is Phase.LIVE


def test_more_held_messages_than_there_is_room_for_have_the_log_read_again() -> None:
    subscriber = Subscriber(START, max_bytes=2 * len(frame(1, 1)))
    subscriber.start_reading()
    for seq in (2, 3, 4):
        subscriber.offer(live(frame(0, seq)))
    subscriber.replayed([frame(0, 1)], FIRST, FIRST, known=True, more=False, over=False)
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.take() == frame(0, 1)


def test_a_page_that_is_not_the_last_is_followed_by_the_next() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    replay(subscriber, frame(0, 1), latest=EventId(1, 2), more=True)
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.start_reading() == FIRST


def test_a_failed_read_counts_for_nothing() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.offer(live(frame(0, 1)))
    subscriber.stop_reading()
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.start_reading() == START
    subscriber.replayed([], START, START, known=True, more=False, over=False)
    assert subscriber.take() == b""


def test_a_slow_reader_is_sent_back_to_the_log_and_nothing_waits_for_it() -> None:
    subscriber = live_reader(max_bytes=2 * len(frame(1, 2)))
    assert subscriber.offer(live(frame(1, 2)))
    assert subscriber.offer(live(frame(1, 3)))
    assert subscriber.offer(live(frame(1, 4)))
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.take() == b""
    assert subscriber.start_reading() == EventId(1, 1)


def test_a_message_larger_than_the_room_is_delivered_when_nothing_else_waits() -> None:
    subscriber = live_reader(max_bytes=10)
    assert subscriber.offer(live(entry(1, 2, 9)))
    assert subscriber.take() == entry(1, 2, 9)


def test_a_reader_is_closed_after_the_terminal_event_and_gets_nothing_more() -> None:
    subscriber = live_reader()
    assert subscriber.offer(live(end(1, 2)))
    assert subscriber.ended
    assert not subscriber.offer(live(frame(1, 3)))
    assert not subscriber.lose()
    assert not subscriber.behind(EventId(1, 3))
    assert subscriber.take() == end(1, 2)
    assert phase_of(subscriber) is Phase.LIVE
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.CLOSED
    assert not subscriber.offer(live(frame(1, 3)))


def test_a_log_that_holds_the_terminal_event_closes_the_reader() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    replay(subscriber, frame(0, 1), end(1, 1), latest=EventId(1, 1), over=True)
    assert subscriber.take() == frame(0, 1) + end(1, 1)
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.CLOSED


def test_a_terminal_event_among_the_held_messages_closes_the_reader() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.offer(live(end(0, 2)))
    subscriber.offer(live(frame(0, 3)))
    subscriber.replayed([frame(0, 1)], FIRST, FIRST, known=True, more=False, over=False)
    assert subscriber.take() == frame(0, 1) + end(0, 2)
    assert subscriber.ended


def test_a_reader_that_has_the_terminal_event_already_is_closed_at_once() -> None:
    subscriber = Subscriber(EventId(1, 1), max_bytes=ROOM)
    replay(subscriber, latest=EventId(1, 1), over=True)
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.CLOSED


def test_a_page_of_an_ended_job_is_not_its_end_while_more_follows() -> None:
    subscriber = Subscriber(START, max_bytes=ROOM)
    replay(subscriber, frame(0, 1), latest=EventId(1, 2), more=True, over=True)
    assert subscriber.take() == frame(0, 1)
    assert subscriber.take() == b""
    assert phase_of(subscriber) is Phase.REPLAY
    replay(subscriber, frame(1, 1), end(1, 2), latest=EventId(1, 2), over=True)
    assert subscriber.ended


def test_a_log_that_is_ahead_of_a_live_reader_shows_that_it_missed_something() -> None:
    subscriber = live_reader()
    assert not subscriber.behind(EventId(1, 1))
    assert subscriber.behind(EventId(1, 2))
    assert subscriber.behind(EventId(2, 0))
    assert subscriber.behind(None)  # the job is gone


def test_a_reader_that_still_replays_is_not_behind() -> None:
    assert not Subscriber(START, max_bytes=ROOM).behind(EventId(1, 2))


def test_a_cursor_ahead_of_the_log_gets_a_gap_and_then_the_whole_log() -> None:
    subscriber = Subscriber(EventId(1, 9), max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.offer(live(frame(1, 4)))  # the held message no longer fits the log
    assert subscriber.replayed([], FIRST, EventId(1, 3), known=False, more=False, over=False)
    assert phase_of(subscriber) is Phase.REPLAY
    assert subscriber.take() == encode_gap(EventId(1, 9), FIRST, EventId(1, 3))
    assert subscriber.start_reading() == START
    whole = [frame(0, 1), entry(1, 1, 4)]
    assert not subscriber.replayed(whole, FIRST, EventId(1, 4), known=True, more=False, over=False)
    assert subscriber.take() == frame(0, 1) + entry(1, 1, 4)


def test_a_cursor_ahead_of_an_ended_log_gets_a_gap_too() -> None:
    subscriber = Subscriber(EventId(5, 1), max_bytes=ROOM)
    replay(subscriber, latest=EventId(1, 1), known=False, over=True)
    assert subscriber.take() == encode_gap(EventId(5, 1), FIRST, EventId(1, 1))
    replay(subscriber, frame(0, 1), end(1, 1), latest=EventId(1, 1), over=True)
    assert subscriber.take() == frame(0, 1) + end(1, 1)


def test_a_cursor_before_a_trimmed_log_gets_a_gap_and_the_remaining_events() -> None:
    subscriber = Subscriber(EventId(1, 2), max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.replayed([entry(1, 5, 6)], EventId(1, 5), EventId(1, 6), known=False, more=False, over=False)
    assert subscriber.take() == encode_gap(EventId(1, 2), EventId(1, 5), EventId(1, 6))
    assert subscriber.start_reading() == EventId(1, 4)
    subscriber.replayed([entry(1, 5, 6)], EventId(1, 5), EventId(1, 6), known=False, more=False, over=False)
    assert subscriber.take() == entry(1, 5, 6)
    assert phase_of(subscriber) is Phase.LIVE


def test_a_cursor_just_before_a_trimmed_log_gets_no_gap() -> None:
    subscriber = Subscriber(EventId(1, 4), max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.replayed([entry(1, 5, 6)], EventId(1, 5), EventId(1, 6), known=False, more=False, over=False)
    assert subscriber.take() == entry(1, 5, 6)


def test_a_cursor_inside_a_trimmed_log_gets_no_gap() -> None:
    subscriber = Subscriber(EventId(1, 5), max_bytes=ROOM)
    subscriber.start_reading()
    subscriber.replayed([entry(1, 5, 6)], EventId(1, 5), EventId(1, 6), known=True, more=False, over=False)
    assert subscriber.take() == frame(1, 6)


def test_lost_events_are_a_gap_even_if_a_later_execution_has_continued() -> None:
    """Report a gap: by its rollback the text would be whole, but the reader would have events that no log holds."""
    subscriber = Subscriber(EventId(1, 9), max_bytes=ROOM)
    again = [frame(0, 1), entry(1, 1, 3), entry(2, 1, 2)]
    replay(subscriber, again[-1], latest=EventId(2, 2), known=False)
    assert subscriber.take() == encode_gap(EventId(1, 9), FIRST, EventId(2, 2))
    replay(subscriber, *again, latest=EventId(2, 2), known=False)
    assert subscriber.take() == b"".join(again)


def test_sent_events_are_distinguished_from_waiting_ones() -> None:
    subscriber = live_reader()
    subscriber.offer(live(frame(1, 2)))
    assert (subscriber.position, subscriber.sent) == (EventId(1, 2), EventId(1, 1))
    subscriber.take()
    assert subscriber.sent == EventId(1, 2)
