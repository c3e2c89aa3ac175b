"""Compare live readers with their logs, to find lost messages that no successor reveals, and a feed that is deaf.

A lost message does no harm once it is found: its readers read the log. But a reader may be behind its log although its
connection has brought everything that its server published. Then that server is not the log's: for example, it is a
demoted primary that stays up. Not here: the times of the checks (hub.py).
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.streams.reader import Channel, Reader
from shared.model.events import EventId
from shared.model.metrics import Metrics
from shared.store.client import REDIS_FAULTS, Client, drop_idle_connections
from shared.store.keys import Keys
from shared.store.live_feed import LiveFeed
from shared.store.refusals import name_of
from shared.store.replay_log import ReplayLog

log = structlog.get_logger()

_TAILS_S: Final = 5.0
_ECHO_S: Final = 1.0


class TailCheck:
    """Run the tail checks of one hub, on a connection of their own, which resolves the server's address each time."""

    def __init__(
        self,
        feed: LiveFeed,
        feed_client: Client,
        replay_log: ReplayLog,
        keys: Keys,
        readers: Callable[[], list[Reader]],
        metrics: Metrics,
    ) -> None:
        self._feed = feed
        self._client = feed_client
        self._tails = ReplayLog(feed_client, keys)
        self._replay_log = replay_log
        self._readers = readers
        self._deaf = metrics.feed_deaf.of()
        self._is_deaf = False

    async def check(self) -> None:
        """Compare once. Readers that are behind read the log at once; a deaf feed is reconnected."""
        silent = [reader for reader in self._readers() if reader.live]
        if not silent:
            return
        try:
            tails = await self._read_tails(sorted({reader.job_id for reader in silent}))
            late = [reader.channel for reader in silent if reader.check_tail(tails[reader.job_id])]
            if late and await self._proves_deafness(late):
                self._found_deaf(len(late))
                await self._replay_log.drop_idle_connections()
            elif not late:
                self._is_deaf = False
        except REDIS_FAULTS as error:
            log.debug("hub.tail_check_failed", error=name_of(error))

    async def _read_tails(self, job_ids: list[str]) -> dict[str, EventId | None]:
        await drop_idle_connections(self._client)
        async with asyncio.timeout(_TAILS_S):
            return dict(zip(job_ids, await self._tails.tails(job_ids), strict=True))

    async def _proves_deafness(self, late: list[Channel]) -> bool:
        """Return whether the feed failed to bring the logged events, although it had the time.

        A message may still be in transit, because the tail arrives on another connection. An answer on the feed's own
        connection arrives after the message.
        """
        for channel in late:
            channel.received = False
        try:
            await self._feed.echo(_ECHO_S)
        except TimeoutError:
            return True
        return any(channel.readers and not channel.received for channel in late)

    def _found_deaf(self, readers: int) -> None:
        self._deaf.add()
        write = log.debug if self._is_deaf else log.warning
        write("feed.deaf", readers=readers)
        self._is_deaf = True
        self._feed.reconnect()
