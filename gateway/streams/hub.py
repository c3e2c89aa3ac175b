"""Hold the gateway's single pub/sub connection and fan its messages out to readers.

One timer serves all readers: heartbeats, tail checks, the limit of an outage, and frozen sockets.
gateway/model/subscriber.py decides which frames a reader gets. Not here: HTTP, dialects.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway.model.heartbeat_schedule import HeartbeatSchedule
from gateway.model.subscriber import read_live
from gateway.streams.reader import Channel, Reader, StreamBroken
from gateway.streams.tail_check import TailCheck
from shared.model.bounds import STEP_READER_BYTES
from shared.model.errors import BadCursor
from shared.model.events import EventId
from shared.model.metrics import Metrics
from shared.process.clock import Clock
from shared.store.client import Client
from shared.store.keys import Keys
from shared.store.live_feed import LiveFeed
from shared.store.replay_log import ReplayLog

log = structlog.get_logger()

_TICK_S = 0.5


class Hub:
    """Hold all readers of this process."""

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
        self._gaps, self._frozen = metrics.gaps.of(), metrics.frozen.of()
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
        self._numbers = itertools.count()
        self._empty = asyncio.Event()
        self._empty.set()
        self._feed = LiveFeed(
            feed_client,
            clock,
            on_message=self._on_message,
            on_confirmed=self._on_confirmed,
            connects=metrics.feed_connects.of(),
        )
        self.tail_check = TailCheck(self._feed, feed_client, replay_log, keys, lambda: self.readers, metrics)

    @asynccontextmanager
    async def reader(
        self, job_id: str, cursor: EventId, *, resumable: bool = True, shared_by: int = 1
    ) -> AsyncIterator[Reader]:
        """Open a reader from `cursor` on; it counts as long as the context is open.

        Its memory is its share of that of one stream, which is `shared_by` this number of readers.
        """
        name = self._keys.channel(job_id)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel()
            self._feed.subscribe(name)
            self._empty.clear()
        reader = Reader(
            self.replay_log,
            channel,
            job_id,
            cursor,
            resumable=resumable,
            max_bytes=max(self._reader_bytes // shared_by, min(self._reader_bytes, STEP_READER_BYTES)),
            gaps=self._gaps,
            number=next(self._numbers),
        )
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
        """Return all readers of this process."""
        return [reader for channel in self._channels.values() for reader in channel.readers]

    @property
    def connected(self) -> bool:
        """Return whether the live feed has its connection."""
        return self._feed.lost_at is None

    def lose(self) -> None:
        """Send all readers back to their logs: the server may have lost messages."""
        for reader in self.readers:
            reader.lose()

    async def emptied(self) -> None:
        """Wait until the last reader has left."""
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
            # Tailrace does not publish such a message. Readers lose nothing: the log is authoritative.
            log.warning("hub.unreadable_message", channel=name)
            message = None
        channel.received = True
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
        # Twice a period: a frame just after a check must not make two periods of silence. Not all readers at once:
        # writing ten thousand heartbeats would delay all other work for too long.
        schedule = HeartbeatSchedule(self._heartbeat_s / 2, _TICK_S, self._clock.monotonic())
        while True:
            await asyncio.sleep(schedule.tick_s)
            now = self._clock.monotonic()
            readers = self.readers
            if due := schedule.due(now):
                for reader in readers:
                    if schedule.group_of(reader.number) in due:
                        reader.heartbeat()
            self._break_stalled(readers, now)

    async def _compare_tails(self) -> None:
        # A task of its own: a Redis that does not answer must not hold up the heartbeats.
        while True:
            await asyncio.sleep(self._tail_check_s)
            await self.tail_check.check()

    def _break_stalled(self, readers: list[Reader], now: float) -> None:
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

    async def ended(self, job_id: str, cursor: EventId, timeout_s: float) -> bool:
        """Wait until the job has its terminal event, at most `timeout_s`; return whether it has."""
        try:
            async with asyncio.timeout(timeout_s), self.reader(job_id, cursor) as reader:
                while await reader.chunk():
                    pass
                return reader.ended
        except (TimeoutError, StreamBroken):
            return False
