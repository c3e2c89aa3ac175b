"""Test an outbox: its entries, its buffer, and the moments at which it makes its provider wait."""

import asyncio
from collections.abc import Coroutine

import pytest

from shared.model.events import EventType, encode_data, first_id, last_id, split_frames
from shared.process.clock import Clock
from shared.store.client import open_client
from shared.store.executions import Execution
from shared.store.keys import Keys
from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import AppendAnswer, Behind, Busy, StopReason, Written
from worker.execution.pump import Outbox, Pump

KIB = 1024
ROOMY = 1 << 30


class ManualClock(Clock):
    """Advance only when the test sets the time."""

    def __init__(self) -> None:
        self.now = 100.0

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


class Bench:
    """Hold an outbox with a pump that does not run: the test acts as the pump and the log."""

    def __init__(self, *, max_bytes: int = ROOMY, seq: int = 1) -> None:
        self.clock = ManualClock()
        self.verdicts: list[StopReason] = []
        # Never connects: nothing here reaches the log.
        pump = Pump(ReplayLog(open_client("redis://127.0.0.1:1"), Keys()), self.clock, max_bytes=max_bytes)
        self.outbox: Outbox = pump.open(Execution("job_1", 3, "w.1", seq, 1, 1, 1_000), self.verdicts.append)

    async def put(self, *texts: str) -> None:
        for text in texts:
            await self.outbox.put(EventType.DELTA, encode_data({"content": text}))

    def entry(self) -> Entry:
        entry = self.outbox.next_entry()
        assert entry is not None
        return entry

    def answer(self, answer: AppendAnswer) -> bool:
        return self.outbox.acknowledge(answer, self.entry())

    async def accepted(self, *texts: str) -> None:
        """Put each text and let the log take it, one entry each."""
        for text in texts:
            await self.put(text)
            assert self.answer(Written())


def span(entry: Entry) -> tuple[int, int]:
    """Return the sequence numbers that an entry states; check that it holds exactly these."""
    assert (first_id(entry.frames).seq, last_id(entry.frames).seq) == (entry.first, entry.last)
    assert len(list(split_frames(entry.frames))) == entry.last - entry.first + 1
    return entry.first, entry.last


def text_of(size: int) -> str:
    """Build a text that makes a frame of so many bytes, under a one-digit number."""
    bare = len(b'event: delta\ndata: {"content":""}\nid: 3-2\n\n')
    return "x" * (size - bare)


async def settled(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Start this and let it come as far as it comes by itself."""
    task = asyncio.create_task(work)
    await a_few_turns()
    return task


async def a_few_turns() -> None:
    """Let everybody come as far as they come by themselves."""
    for _ in range(5):
        await asyncio.sleep(0)


# Entries.


async def test_frames_are_numbered_on_from_the_executions_last_event() -> None:
    bench = Bench(seq=2)
    await bench.put("a", "b")

    entry = bench.entry()

    assert span(entry) == (3, 4)
    assert (entry.job_id, entry.epoch, entry.owner) == ("job_1", 3, "w.1")
    assert entry.frames.startswith(b'event: delta\ndata: {"content":"a"}\nid: 3-3\n\n')
    assert bench.outbox.seq == 4
    assert bench.outbox.log_bytes == len(entry.frames)


async def test_an_empty_outbox_has_nothing_to_send() -> None:
    assert Bench().outbox.next_entry() is None
    assert not Bench().outbox.waits


async def test_an_entry_stays_identical_until_it_is_acknowledged() -> None:
    bench = Bench()
    await bench.put("a")
    entry = bench.entry()
    await bench.put("b")

    assert bench.entry() is entry
    assert not bench.answer(Busy("OOM"))
    assert bench.entry() is entry
    assert bench.answer(Written())
    assert span(bench.entry()) == (3, 3)


@pytest.mark.parametrize("answer", [Written(), Written(repeated=True)])
async def test_frames_that_are_in_the_log_are_not_sent_again(answer: AppendAnswer) -> None:
    bench = Bench()
    await bench.put("a")

    assert bench.answer(answer)

    assert bench.outbox.next_entry() is None
    assert not bench.outbox.waits


async def test_an_entry_takes_up_to_64_kib_of_frames_and_the_rest_follows() -> None:
    bench = Bench()
    await bench.put(*[text_of(16 * KIB)] * 5)

    assert span(bench.entry()) == (2, 5)
    assert len(bench.entry().frames) == 64 * KIB
    bench.answer(Written())
    assert span(bench.entry()) == (6, 6)


async def test_a_frame_that_is_larger_than_an_entry_may_be_goes_alone() -> None:
    bench = Bench()
    await bench.put("a", text_of(100 * KIB), "b")

    for expected in ((2, 2), (3, 3), (4, 4)):
        assert span(bench.entry()) == expected
        bench.answer(Written())


# Back-pressure.


async def test_put_waits_while_the_outbox_is_full_and_continues_when_there_is_room() -> None:
    bench = Bench(max_bytes=4 * KIB)
    await bench.put(text_of(2 * KIB))

    putting = await settled(bench.put(text_of(2 * KIB), "next"))
    assert not putting.done()
    assert bench.outbox.seq == 3

    bench.answer(Written())
    await asyncio.wait_for(putting, 5)
    assert bench.outbox.seq == 4


async def test_put_waits_while_the_waiting_frames_exceed_the_bound() -> None:
    bench = Bench(max_bytes=4 * KIB)
    putting = await settled(bench.put(text_of(80 * KIB)))
    more = await settled(bench.put(text_of(80 * KIB)))

    bench.answer(Written())
    await a_few_turns()
    assert not putting.done()
    assert not more.done()

    bench.answer(Written())
    await asyncio.wait_for(asyncio.gather(putting, more), 5)


async def test_flushed_waits_for_the_last_frame_and_not_longer() -> None:
    bench = Bench()
    await bench.outbox.flushed()
    await bench.put(text_of(60 * KIB), text_of(60 * KIB))

    flushing = await settled(bench.outbox.flushed())
    bench.answer(Written())
    await a_few_turns()
    assert not flushing.done()

    bench.answer(Written())
    await asyncio.wait_for(flushing, 5)


# Verdicts.


@pytest.mark.parametrize("verdict", [StopReason.FENCED, StopReason.CANCELLED, StopReason.ENDED, StopReason.MISSING])
async def test_a_verdict_is_reported_once_and_ends_the_outbox(verdict: StopReason) -> None:
    bench = Bench()
    await bench.put("a")

    assert bench.answer(verdict)
    bench.outbox.close(StopReason.DRAIN)
    await bench.put("b")

    assert bench.verdicts == [verdict]
    assert bench.outbox.stopped == verdict
    assert bench.outbox.next_entry() is None
    assert not bench.outbox.waits
    assert bench.outbox.seq == 2


async def test_a_verdict_releases_waiting_callers() -> None:
    bench = Bench(max_bytes=4 * KIB)
    putting = await settled(bench.put(text_of(8 * KIB)))
    flushing = await settled(bench.outbox.flushed())

    bench.answer(StopReason.FENCED)

    await asyncio.wait_for(asyncio.gather(putting, flushing), 5)


# When Redis forgets.


async def test_lost_frames_are_sent_again_before_the_new_ones() -> None:
    bench = Bench()
    await bench.put("a", "b")
    first = bench.entry()
    bench.answer(Written())
    await bench.accepted("c")
    await bench.put("d")

    assert bench.answer(Behind(2))

    entry = bench.entry()
    assert span(entry) == (3, 5)
    assert entry.frames.startswith(list(split_frames(first.frames))[1])
    assert bench.verdicts == []


async def test_a_log_that_lost_all_frames_of_this_execution_gets_them_again() -> None:
    bench = Bench()
    await bench.accepted("a", "b")
    await bench.put("c")

    bench.answer(Behind(1))

    assert span(bench.entry()) == (2, 4)


async def test_redis_may_forget_twice() -> None:
    bench = Bench()
    await bench.accepted("a", "b")
    await bench.put("c")
    bench.answer(Behind(2))
    bench.answer(Written())
    await bench.put("d")

    bench.answer(Behind(1))

    assert span(bench.entry()) == (2, 5)


async def test_frames_found_in_the_log_are_not_sent_again() -> None:
    bench = Bench()
    await bench.put("a", "b", "c")

    bench.answer(Behind(3))

    assert span(bench.entry()) == (4, 4)


async def test_an_execution_ends_if_its_lost_frames_are_no_longer_kept() -> None:
    bench = Bench()
    await bench.accepted("a")
    bench.clock.now += 2.5
    await bench.accepted("b", "c")
    await bench.put("d")

    bench.answer(Behind(1))

    assert bench.verdicts == ["behind"]


async def test_an_execution_that_kept_nothing_can_not_fill_a_gap() -> None:
    bench = Bench(seq=5)
    await bench.put("a")

    bench.answer(Behind(4))
    assert bench.verdicts == ["behind"]


async def test_the_last_acknowledged_frames_can_be_sent_again_without_new_ones() -> None:
    bench = Bench()
    await bench.accepted("a", "b")

    assert bench.outbox.send_again(2)

    assert span(bench.entry()) == (3, 3)
    assert bench.answer(Written())
    assert bench.verdicts == []


@pytest.mark.parametrize("log_ends_at", [1, 4], ids=["no longer kept", "never sent"])
async def test_lost_frames_that_cannot_be_sent_again_end_the_execution(log_ends_at: int) -> None:
    bench = Bench(seq=2)
    await bench.accepted("a", "b")

    assert not bench.outbox.send_again(log_ends_at)
    assert not bench.outbox.send_again(3)

    assert bench.verdicts == ["behind"]


async def test_frames_of_the_last_two_seconds_are_kept() -> None:
    bench = Bench()
    for text in "abc":
        await bench.accepted(text)
        bench.clock.now += 0.9
    await bench.put("d")

    bench.answer(Behind(1))

    assert span(bench.entry()) == (2, 5)


async def test_no_more_than_256_kib_are_kept() -> None:
    bench = Bench()
    await bench.accepted(*[text_of(64 * KIB)] * 5)
    await bench.put("x")
    bench.answer(Behind(2))
    # 2 to 6 were accepted; the four last fit, and the first of them is 3.
    assert bench.entry().first == 3

    bench = Bench()
    await bench.accepted(*[text_of(64 * KIB)] * 5)
    await bench.put("x")
    bench.answer(Behind(1))
    assert bench.verdicts == ["behind"]


async def test_frames_that_are_sent_again_count_as_waiting() -> None:
    bench = Bench(max_bytes=4 * KIB)
    await bench.accepted(text_of(3 * KIB), text_of(3 * KIB))
    await bench.put("a")
    bench.answer(Behind(1))

    putting = await settled(bench.put("b"))
    assert not putting.done()

    bench.answer(Written())
    await asyncio.wait_for(putting, 5)
