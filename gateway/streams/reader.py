"""One reader of one job: takes frames from the log and the live feed until the end, a break or a departure.

Above: hub.py makes readers and wakes them; the API's streams take bytes from `chunk()`. Below: subscriber.py, which
decides what a reader gets, and the replay log. Not here: HTTP, dialects, timers.
"""

import asyncio
from typing import Final

import structlog

from gateway.streams.subscriber import Live, Phase, Subscriber
from shared.model.bounds import PAGE_BYTES
from shared.model.errors import TailraceError
from shared.model.events import EventId
from shared.model.lifecycle import TERMINAL
from shared.store.client import REDIS_DOWN, name_of
from shared.store.replay_log import ReplayLog
from shared.telemetry.metrics import Count

log = structlog.get_logger()

HEARTBEAT: Final = b": hb\n"
"""One comment line without a blank one: the only heartbeat that no client trips over (design, Frames)."""

_RETRY_S = 0.2
_QUIET_LOOKS = 2


class StreamBroken(TailraceError):
    """This reader must be let go before its stream has ended: its connection is to be broken, not closed."""

    code = "stream_broken"


class Channel:
    """One job's live channel and its readers."""

    __slots__ = ("confirmed", "heard", "readers")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self.confirmed = asyncio.Event()
        self.heard = False
        """Whether a message came since a tail check looked."""


class Reader:
    """A reader of one job. `chunk()` gives what is to be sent next; one task reads, any may wake it."""

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
        """Its place in the order in which readers came."""
        self.resumable = resumable
        """Whether the client can come back to where it was: a draining gateway lets those go first."""
        self.heartbeat_due = False
        self.gone = False
        self.broken: str | None = None
        self.sending_since: float | None = None
        """Since when (monotonic seconds) a send to this reader has not come back; kept by sse.py."""
        self.timeout: asyncio.Timeout | None = None

    @property
    def ended(self) -> bool:
        """Whether the terminal event has been seen."""
        return self._subscriber.ended

    @property
    def live(self) -> bool:
        """Whether this reader follows the live feed just now."""
        return self._subscriber.phase is Phase.LIVE

    def wake(self) -> None:
        """Let a waiting `chunk()` look again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def leave(self) -> None:
        """The client has gone: `chunk()` ends."""
        self.gone = True
        self.wake()

    def break_off(self, reason: str) -> None:
        """Let this reader go before its stream has ended: `chunk()` raises `StreamBroken`."""
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
                raise StreamBroken(self.broken)  # what waits is in the log
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
        """Called twice a heartbeat period: a reader that heard nothing since the last but one gets one."""
        self._quiet += 1
        if self._quiet >= _QUIET_LOOKS:
            self.send_heartbeat()

    def send_heartbeat(self) -> None:
        """Let the next chunk be a heartbeat, if nothing else waits."""
        self._quiet = 0
        self.heartbeat_due = True
        self.wake()

    async def _replay(self) -> bool:
        """Read the log once; False if Redis can't be reached now."""
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
        told_gap = self._subscriber.replayed(
            page.entries,
            page.earliest,
            page.latest,
            known=page.known,
            more=page.more,
            over=page.status in TERMINAL,
        )
        self._gaps.add(told_gap)
        return True

    async def _confirmed(self) -> None:
        # Subscribe first, then read: what is published between the two is held by the subscriber.
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
        """A live message, parsed by the hub."""
        if self._subscriber.offer(message):
            self.wake()

    def lose(self) -> None:
        """Messages may have been lost."""
        if self._subscriber.lose():
            self.wake()

    def check_tail(self, tail: EventId | None) -> bool:
        """Compare with the log's tail, None for a job that is gone; whether an event was missed.

        An epoch that was taken in order to end the job has no event until it does.
        """
        behind = self._subscriber.behind(tail)
        if behind:
            self.lose()
        return behind and tail is not None and tail.seq > 0
