"""Serve one reader of one job: take frames from the log and the live feed until the end, a break or a departure.

The reader does the I/O; gateway/model/subscriber.py decides which frames it gets. Not here: HTTP, dialects, timers.
"""

import asyncio
from typing import Final

import structlog

from gateway.model.subscriber import Live, Phase, Subscriber
from shared.model.bounds import PAGE_BYTES
from shared.model.errors import TailraceError
from shared.model.events import EventId
from shared.model.lifecycle import TERMINAL
from shared.model.metrics import Count
from shared.store.client import REDIS_DOWN
from shared.store.refusals import name_of
from shared.store.replay_log import ReplayLog

log = structlog.get_logger()

HEARTBEAT: Final = b": hb\n"
"""One comment line without a blank one: the only heartbeat that every client tolerates (design, Frames)."""

_RETRY_S = 0.2
_QUIET_CHECKS = 2


class StreamBroken(TailraceError):
    """This reader's stream is broken off before its end: its connection must be aborted, not closed."""

    code = "stream_broken"


class Channel:
    """Hold one job's live channel and its readers."""

    __slots__ = ("confirmed", "readers", "received")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self.confirmed = asyncio.Event()
        self.received = False
        """Whether a message has arrived since the last tail check."""


class Reader:
    """Read one job. `chunk()` returns the next bytes to send; one task reads, any task may wake it."""

    __slots__ = (
        "_gaps",
        "_page_bytes",
        "_quiet",
        "_replay_log",
        "_subscriber",
        "_wake",
        "broken",
        "channel",
        "gone",
        "heartbeat_due",
        "job_id",
        "number",
        "resumable",
        "sending_since",
        "timeout",
    )

    def __init__(
        self,
        replay_log: ReplayLog,
        channel: Channel,
        job_id: str,
        cursor: EventId,
        *,
        resumable: bool,
        max_bytes: int,
        gaps: Count,
        number: int = 0,
    ) -> None:
        self._replay_log = replay_log
        self.channel = channel
        self._gaps = gaps
        self._subscriber = Subscriber(cursor, max_bytes=max_bytes)
        self._page_bytes = min(PAGE_BYTES, max_bytes)
        self._wake: asyncio.Future[None] | None = None
        self._quiet = 0
        self.job_id = job_id
        self.number = number
        """Its place in the order in which readers arrived."""
        self.resumable = resumable
        """Whether the client can resume at its position: a draining gateway breaks off those readers first."""
        self.heartbeat_due = False
        self.gone = False
        self.broken: str | None = None
        self.sending_since: float | None = None
        """When the send that still blocks began (monotonic seconds); sse.py sets it."""
        self.timeout: asyncio.Timeout | None = None

    @property
    def ended(self) -> bool:
        """Return whether the terminal event has been seen."""
        return self._subscriber.ended

    @property
    def position(self) -> EventId:
        """Return the last event that `chunk()` has returned."""
        return self._subscriber.sent

    @property
    def live(self) -> bool:
        """Return whether this reader follows the live feed now."""
        return self._subscriber.phase is Phase.LIVE

    def wake(self) -> None:
        """Wake a waiting `chunk()`, which then checks for frames again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def leave(self) -> None:
        """End `chunk()`, because the client has disconnected."""
        self.gone = True
        self.wake()

    def break_off(self, reason: str) -> None:
        """Break this reader off before its stream has ended: `chunk()` raises `StreamBroken`."""
        if self.broken is None and not self.ended:
            self.broken = reason
            self.wake()

    async def chunk(self) -> bytes:
        """Wait for frames, all that are pending joined, or `HEARTBEAT`; empty at the end of the stream.

        Raises:
            StreamBroken: this process can't serve the reader any longer.
            JobNotFound: the job is gone.
        """
        while not self.gone:
            if self.broken is not None and self.resumable:
                raise StreamBroken(self.broken)  # the pending frames are in the log
            if frames := self._subscriber.take():
                self._quiet = 0
                return frames
            if self._subscriber.phase is Phase.CLOSED:
                return b""
            if self.broken is not None:
                raise StreamBroken(self.broken)
            if self.heartbeat_due:
                self.heartbeat_due = False
                return HEARTBEAT
            if self._subscriber.phase is Phase.REPLAY and await self._replay():
                continue
            await self._wait(None if self.live else _RETRY_S)
        return b""

    def heartbeat(self) -> None:
        """Send a heartbeat if nothing was sent since the last call but one; called twice a heartbeat period."""
        self._quiet += 1
        if self._quiet >= _QUIET_CHECKS:
            self.send_heartbeat()

    def send_heartbeat(self) -> None:
        """Make the next chunk a heartbeat, if nothing else is pending."""
        self._quiet = 0
        self.heartbeat_due = True
        self.wake()

    async def _replay(self) -> bool:
        """Read the log once; return False if Redis can't be reached now."""
        try:
            await self._confirmed()
            cursor = self._subscriber.start_reading()
            page = await self._replay_log.read_after(self.job_id, cursor, max_bytes=self._page_bytes)
        except REDIS_DOWN as error:
            self._subscriber.stop_reading()
            log.debug("reader.waits_for_redis", job=self.job_id, error=name_of(error))
            return False
        except BaseException:
            self._subscriber.stop_reading()
            raise
        sent_gap = self._subscriber.replayed(
            page.entries,
            page.earliest,
            page.latest,
            known=page.known,
            more=page.more,
            over=page.status in TERMINAL,
        )
        self._gaps.add(sent_gap)
        return True

    async def _confirmed(self) -> None:
        # Subscribe first, then read: the subscriber holds the messages that are published between the two.
        if not self.channel.confirmed.is_set():
            try:
                async with asyncio.timeout(_RETRY_S):
                    await self.channel.confirmed.wait()
            except TimeoutError as error:
                raise ConnectionError("The subscription is not confirmed yet.") from error

    async def _wait(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self.wake)
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    # The hub's side.

    def offer(self, message: Live | None) -> None:
        """Take a live message, parsed by the hub."""
        if self._subscriber.offer(message):
            self.wake()

    def lose(self) -> None:
        """Read the log again, because messages may have been lost."""
        if self._subscriber.lose():
            self.wake()

    def check_tail(self, tail: EventId | None) -> bool:
        """Compare with the log's tail (None for a job that is gone); return whether an event was missed.

        An epoch that was taken in order to end the job has no event until it does.
        """
        behind = self._subscriber.behind(tail)
        if behind:
            self.lose()
        return behind and tail is not None and tail.seq > 0
