"""The bounded buffer between providers' streams and the replay log: one batched append per flush for all jobs.

Self-batching: the next flush starts when the last one is acknowledged, so that a busy process sends large batches and
an idle one adds no delay. An outbox that is full makes its provider wait.
An execution's last frames may be withheld, since the step that ends the job can write them too.
Not here: the content of a frame (attempt.py), and the end of a job (ending.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import structlog

from shared.model.bounds import ENTRY_BYTES, FLUSH_BYTES, KEEP_BYTES
from shared.model.events import EventId, encode_frame
from shared.model.metrics import Metrics
from shared.process.clock import Clock
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.executions import Execution
from shared.store.refusals import PassingRefusal
from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import AppendAnswer, Behind, Busy, StopReason, Written

log = structlog.get_logger()

# Frames are kept for so long, to be sent again: a killed Redis with `appendfsync everysec` may have lost them.
_KEEP_S = 2.0
_PAUSE_FIRST_S = 0.05
# More bytes than these are not withheld for the step that ends the job, which other callers wait for.
_HELD_BYTES = 8192
_PAUSE_MOST_S = 1.0


class Sealed(NamedTuple):
    """A frame that has its sequence number."""

    seq: int
    frame: bytes
    at: float


class Outbox:
    """One execution's frames on their way to the log. Made by `Pump.open`."""

    def __init__(
        self, pump: "Pump", execution: Execution, max_bytes: int, on_stop: Callable[[StopReason], None]
    ) -> None:
        self._pump = pump
        self._max_bytes = max_bytes
        self._on_stop = on_stop
        self._entry: Entry | None = None
        self._held = False
        self._room = asyncio.Event()
        self._room.set()
        self._waiting: deque[Sealed] = deque()
        self._kept: deque[Sealed] = deque()
        self._kept_bytes = 0
        self._waiting_bytes = 0
        self.execution = execution
        self.seq = execution.seq
        """The last sequence number that was given to a frame."""
        self.full = False
        """Whether the job's tenant keeps more bytes than it may."""
        self.log_bytes = 0
        """Bytes of all frames of this execution."""
        self.stopped: StopReason | None = None
        """The reason why the log accepts nothing more from this execution."""

    async def put(self, event: str, data: bytes) -> None:
        """Seal a frame and hand it over; waits while the outbox is full.

        If the log has refused an entry, it does nothing: the attempt is stopped already.
        """
        if self.stopped is not None:
            return
        self.seq += 1
        frame = encode_frame(event, data, EventId(self.execution.epoch, self.seq))
        self._waiting.append(Sealed(self.seq, frame, self._pump.clock.monotonic()))
        self._waiting_bytes += len(frame)
        self.log_bytes += len(frame)
        self._pump.wake(self)
        if self._waiting_bytes >= self._max_bytes:
            self._room.clear()
            await self._room.wait()

    async def flushed(self) -> None:
        """Wait until everything is in the log, or the log has refused an entry."""
        while self._waiting and self.stopped is None:
            self._room.clear()
            await self._room.wait()

    def hold_last(self) -> bool:
        """Withhold the waiting frames from the pump, so that the step that ends the job writes them.

        Return False if they must be flushed instead: an entry is under way, or they are too many.
        """
        if self.stopped is not None or self._entry is not None or self._waiting_bytes > _HELD_BYTES:
            return False
        self._held = True
        self._pump.forget(self)
        return True

    def held_entry(self) -> Entry | None:
        """Return the entry of the withheld frames; None if there are none."""
        return self._make_entry() if self._held and self._waiting else None

    def send_again(self, log_ends_at: int) -> bool:
        """Send the kept frames again, before any other, after Redis lost confirmed events and ends at `log_ends_at`.

        Return False if the kept frames do not fill the gap: then the execution is stopped as BEHIND.
        """
        if self.stopped is not None:
            return False
        self._held = False
        known = self._kept or self._waiting
        if not known or not known[0].seq <= log_ends_at + 1 <= self.seq:
            self.close(StopReason.BEHIND)
            return False
        log.warning("pump.sends_again", job=self.execution.job_id, log_ends_at=log_ends_at)
        while self._kept and self._kept[-1].seq > log_ends_at:
            sealed = self._kept.pop()
            self._kept_bytes -= len(sealed.frame)
            self._waiting.appendleft(sealed)
            self._waiting_bytes += len(sealed.frame)
        while self._waiting and self._waiting[0].seq <= log_ends_at:
            self._waiting_bytes -= len(self._waiting.popleft().frame)
        self._pump.wake(self)
        return True

    # The pump's side.

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes of the frames that Redis has not acknowledged."""
        return self._waiting_bytes

    @property
    def waits(self) -> bool:
        """Return whether any frame waits for a flush."""
        return bool(self._waiting) and self.stopped is None and not self._held

    def next_entry(self) -> Entry | None:
        """Return an entry of as many waiting frames as fit, and the identical entry again until it is acknowledged."""
        if self._entry is not None or not self.waits:
            return self._entry
        self._entry = self._make_entry()
        return self._entry

    def _make_entry(self) -> Entry:
        frames: list[bytes] = []
        size = 0
        for sealed in self._waiting:
            if frames and size + len(sealed.frame) > ENTRY_BYTES:
                break
            frames.append(sealed.frame)
            size += len(sealed.frame)
        first = self._waiting[0].seq
        execution = self.execution
        return Entry(
            execution.job_id,
            execution.epoch,
            execution.owner,
            first,
            first + len(frames) - 1,
            b"".join(frames),
        )

    def acknowledge(self, answer: AppendAnswer, entry: Entry) -> bool:
        """Act on the log's answer; False asks for a pause before the next flush."""
        if isinstance(answer, Busy):
            log.debug("pump.busy", job=entry.job_id, reason=answer.reason)
            return False
        self._entry = None
        match answer:
            case Written():
                self.full = self.full or answer.tenant_full
                self._forget(entry.last)
            case Behind():
                self.send_again(answer.log_end)
            case StopReason():
                self.close(answer)
        return True

    def close(self, reason: StopReason) -> None:
        """Accept nothing more, and release the callers that wait."""
        if self.stopped is None:
            self.stopped = reason
            self._entry = None
            self._waiting.clear()
            self._waiting_bytes = 0
            self._room.set()
            self._on_stop(reason)

    def _forget(self, last: int) -> None:
        now = self._pump.clock.monotonic()
        while self._waiting and self._waiting[0].seq <= last:
            sealed = self._waiting.popleft()
            self._waiting_bytes -= len(sealed.frame)
            self._kept.append(sealed._replace(at=now))
            self._kept_bytes += len(sealed.frame)
        while self._kept and (self._kept_bytes > KEEP_BYTES or now - self._kept[0].at > _KEEP_S):
            self._kept_bytes -= len(self._kept.popleft().frame)
        if self._waiting_bytes < self._max_bytes:
            self._room.set()


class Pump:
    """All outboxes of this process, and the task that empties them."""

    def __init__(self, replay_log: ReplayLog, clock: Clock, *, max_bytes: int, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._round_trip = metrics.append.of()
        metrics.pump_bytes.of().read = lambda: sum(outbox.waiting_bytes for outbox in self._dirty.values())
        self._log = replay_log
        self._max_bytes = max_bytes
        self._dirty: dict[str, Outbox] = {}
        self._wake_up = asyncio.Event()
        self._outage = Outage("pump.redis_lost", "pump.redis_back")
        self._busy = Outage("pump.redis_busy", "pump.redis_takes_again")
        self.clock = clock

    def open(self, execution: Execution, on_stop: Callable[[StopReason], None]) -> Outbox:
        """Make an outbox for one execution; `on_stop` is called once, when the log refuses an entry of it."""
        return Outbox(self, execution, self._max_bytes, on_stop)

    def wake(self, outbox: Outbox) -> None:
        """Wake the pump for an outbox that has frames to send."""
        self._dirty[outbox.execution.owner] = outbox
        self._wake_up.set()

    def forget(self, outbox: Outbox) -> None:
        """Flush an outbox no more until it wakes the pump again."""
        self._dirty.pop(outbox.execution.owner, None)

    async def run(self) -> None:
        """Flush until cancelled."""
        pause = _PAUSE_FIRST_S
        while True:
            await self._wake_up.wait()
            self._wake_up.clear()
            if await self._flush():
                pause = _PAUSE_FIRST_S
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MOST_S)
            if self._dirty:
                self._wake_up.set()

    async def _flush(self) -> bool:
        """Append one batch; False if Redis did not accept it now. Unacknowledged entries are sent again unchanged."""
        batch = self._batch()
        if not batch:
            self._dirty.clear()
            return True
        sent_at = self.clock.monotonic()
        try:
            answers = await self._log.append([entry for _, entry in batch])
        except REDIS_FAULTS as error:
            self._outage.continues(error)
            return False
        self._round_trip.observe(self.clock.monotonic() - sent_at)
        self._outage.is_over()
        fine = True
        for (outbox, entry), answer in zip(batch, answers, strict=True):
            fine &= outbox.acknowledge(answer, entry)
            self._dirty.pop(outbox.execution.owner, None)
            if outbox.waits:
                self._dirty[outbox.execution.owner] = outbox  # behind those that this batch had no room for
        if fine:
            self._busy.is_over()
        else:
            busy = next(answer for answer in answers if isinstance(answer, Busy))
            self._busy.continues(PassingRefusal(busy.reason))
        return fine

    def _batch(self) -> list[tuple[Outbox, Entry]]:
        """Return the next entry of each outbox, as far as they fit into one flush."""
        batch: list[tuple[Outbox, Entry]] = []
        size = 0
        for outbox in self._dirty.values():
            if size >= FLUSH_BYTES:
                break
            if (entry := outbox.next_entry()) is not None:
                batch.append((outbox, entry))
                size += len(entry.frames)
        return batch
