"""The gateway's single pub/sub connection and its fan-out to readers.

Above: the API's streams take bytes from a `Reader`. Below: shared/replay.py (log and live feed) and subscriber.py,
which decides what a reader gets. One timer serves all readers: heartbeats, tail checks, patience and frozen sockets.
Not here: HTTP, dialects.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from gateway.subscriber import Live, Phase, Subscriber, read_live
from shared.bounds import PAGE_BYTES
from shared.clock import Clock
from shared.errors import BadCursor, TailraceError
from shared.events import EventId
from shared.keys import Keys
from shared.lifecycle import TERMINAL
from shared.metrics import Metrics
from shared.replay import LiveFeed, ReplayLog
from shared.valkey import REDIS_DOWN, REDIS_FAULTS, Client, name_of

log = structlog.get_logger()

HEARTBEAT: Final = b": hb\n"
"""One comment line without a blank one: the only heartbeat that no client trips over (design, Frames)."""

_TICK_S = 0.5
_RETRY_S = 0.2
_QUIET_LOOKS = 2


class StreamBroken(TailraceError):
    """This reader must be let go before its stream has ended: its connection is to be broken, not closed."""

    code = "stream_broken"


class Channel:
    """One job's live channel and its readers."""

    __slots__ = ("confirmed", "readers")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self.confirmed = asyncio.Event()


class Reader:
    """A reader of one job. `chunk()` gives what is to be sent next; one task reads, any may wake it."""

    __slots__ = (
        "_channel",
        "_hub",
        "_page_bytes",
        "_quiet",
        "_subscriber",
        "_wake",
        "broken",
        "gone",
        "heartbeat_due",
        "job_id",
        "resumable",
        "sending_since",
        "timeout",
    )

    def __init__(
        self, hub: "Hub", channel: Channel, job_id: str, cursor: EventId, *, resumable: bool, max_bytes: int
    ) -> None:
        self._hub = hub
        self._channel = channel
        self._subscriber = Subscriber(cursor, max_bytes=max_bytes)
        self._page_bytes = min(PAGE_BYTES, max_bytes)
        self._wake: asyncio.Future[None] | None = None
        self._quiet = 0
        self.job_id = job_id
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
            self._quiet = 0
            self.heartbeat_due = True
            self.wake()

    async def _replay(self) -> bool:
        """Read the log once; False if Redis can't be reached now."""
        try:
            await self._confirmed()
            cursor = self._subscriber.start_reading()
            page = await self._hub.replay_log.read_after(self.job_id, cursor, max_bytes=self._page_bytes)
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
        self._hub.gaps.add(told_gap)
        return True

    async def _confirmed(self) -> None:
        # Subscribe first, then read: what is published between the two is held by the subscriber.
        if not self._channel.confirmed.is_set():
            try:
                async with asyncio.timeout(_RETRY_S):
                    await self._channel.confirmed.wait()
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

    def check_tail(self, tail: EventId | None) -> None:
        """The log stands at `tail`."""
        if self._subscriber.behind(tail):
            self.lose()


class Hub:
    """All readers of this process."""

    def __init__(
        self,
        feed_client: Client,
        replay_log: ReplayLog,
        keys: Keys,
        clock: Clock,
        *,
        reader_bytes: int,
        heartbeat_s: float,
        tail_check_s: float,
        redis_patience_s: float,
        send_timeout_s: float,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self.gaps, self._frozen = metrics.gaps.of(), metrics.frozen.of()
        metrics.readers.of().read = lambda: len(self.readers)
        self.replay_log = replay_log
        self._keys = keys
        self._clock = clock
        self._reader_bytes = reader_bytes
        self._heartbeat_s = heartbeat_s
        self._tail_check_s = tail_check_s
        self._redis_patience_s = redis_patience_s
        self._send_timeout_s = send_timeout_s
        self._channels: dict[str, Channel] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._feed = LiveFeed(
            feed_client,
            clock,
            on_message=self._on_message,
            on_confirmed=self._on_confirmed,
            connects=metrics.feed_connects.of(),
        )

    @asynccontextmanager
    async def reader(self, job_id: str, cursor: EventId, *, resumable: bool = True) -> AsyncIterator[Reader]:
        """A reader from `cursor` on; it counts as long as the context is open."""
        name = self._keys.channel(job_id)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel()
            self._feed.subscribe(name)
            self._empty.clear()
        reader = Reader(self, channel, job_id, cursor, resumable=resumable, max_bytes=self._reader_bytes)
        channel.readers.add(reader)
        try:
            yield reader
        finally:
            channel.readers.discard(reader)
            if not channel.readers and self._channels.get(name) is channel:
                del self._channels[name]
                self._feed.unsubscribe(name)
            if not self._channels:
                self._empty.set()

    @property
    def readers(self) -> list[Reader]:
        """All readers of this process."""
        return [reader for channel in self._channels.values() for reader in channel.readers]

    @property
    def connected(self) -> bool:
        """Whether the live feed has its connection."""
        return self._feed.lost_at is None

    async def emptied(self) -> None:
        """Wait until there are no readers."""
        await self._empty.wait()

    async def run(self) -> None:
        """Keep the feed and the timer alive until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run())
            group.create_task(self._tick())
            group.create_task(self._compare_tails())

    def _on_message(self, name: str, payload: bytes) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        try:
            message = read_live(payload)
        except (ValueError, BadCursor):
            # Nothing that we publish; whatever it is, the log tells what is true.
            log.warning("hub.unreadable_message", channel=name)
            message = None
        for reader in channel.readers:
            reader.offer(message)

    def _on_confirmed(self, name: str) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.confirmed.set()
        for reader in channel.readers:
            reader.lose()

    async def _tick(self) -> None:
        # Twice a period: a frame just after a look must not make two periods of silence.
        look_s = self._heartbeat_s / 2
        look_at = self._clock.monotonic() + look_s
        while True:
            await asyncio.sleep(min(_TICK_S, look_s))
            now = self._clock.monotonic()
            readers = self.readers
            if now >= look_at:
                look_at = now + look_s
                for reader in readers:
                    reader.heartbeat()
            self._let_go(readers, now)

    async def _compare_tails(self) -> None:
        # A task of its own: a Redis that does not answer must not hold up the heartbeats.
        while True:
            await asyncio.sleep(self._tail_check_s)
            await self._check_tails(self.readers)

    def _let_go(self, readers: list[Reader], now: float) -> None:
        lost_at = self._feed.lost_at
        if lost_at is not None and now - lost_at > self._redis_patience_s:
            for reader in readers:
                reader.break_off("Redis is away.")
        for reader in readers:
            since = reader.sending_since
            if since is not None and now - since > self._send_timeout_s and reader.timeout is not None:
                self._frozen.add()
                log.info("reader.frozen", job=reader.job_id, seconds=round(now - since, 1))
                reader.sending_since = None
                reader.timeout.reschedule(0)

    async def _check_tails(self, readers: list[Reader]) -> None:
        """Find a lost message that has no successor to betray it, such as a terminal event."""
        silent = [reader for reader in readers if reader.live]
        if not silent:
            return
        job_ids = sorted({reader.job_id for reader in silent})
        try:
            tails = dict(zip(job_ids, await self.replay_log.tails(job_ids), strict=True))
        except REDIS_FAULTS as error:
            log.debug("hub.tail_check_failed", error=name_of(error))
            return
        for reader in silent:
            reader.check_tail(tails[reader.job_id])

    async def ended(self, job_id: str, cursor: EventId, timeout_s: float) -> bool:
        """Wait until the job has its terminal event, at most so long."""
        try:
            async with asyncio.timeout(timeout_s), self.reader(job_id, cursor) as reader:
                while await reader.chunk():
                    pass
                return reader.ended
        except (TimeoutError, StreamBroken):
            return False
