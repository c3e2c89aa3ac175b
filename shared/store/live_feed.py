"""The live feed: the one pub/sub connection of a process, for any number of channels.

The gateway's hub and the worker's control channel use it. Messages can be lost; the log (replay_log.py) is complete.
"""

import asyncio
import itertools
from collections.abc import Callable

from redis.asyncio import Connection, Redis

from shared.model.metrics import Count
from shared.process.clock import Clock
from shared.store.client import REDIS_FAULTS, Backoff, Outage

_RECONNECT_FIRST_S = 0.05
_RECONNECT_MOST_S = 1.0
# A connection that ended sooner than this was never well.
_STEADY_S = 1.0


class FeedDeaf(ConnectionError):
    """The connection answers, or seems to, and brings no messages."""


class LiveFeed:
    """One pub/sub connection for any number of channels; it reconnects by itself and never silently.

    `on_message(channel, bytes)` for every message; `on_confirmed(channel)` when the server has confirmed a
    subscription, again after every reconnect: messages published meanwhile are lost, but the log has them.
    """

    def __init__(
        self,
        client: Redis,
        clock: Clock,
        *,
        on_message: Callable[[str, bytes], None],
        on_confirmed: Callable[[str], None],
        watchdog_s: float = 5.0,
        connects: Count | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._watchdog_s = watchdog_s
        self._connects = connects or Count()
        self._wanted: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        self._commands: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        self._connection: Connection | None = None
        self._deaf = asyncio.Event()
        self._tokens = (b"echo %d" % number for number in itertools.count(1))
        self._echo: tuple[bytes, asyncio.Future[None]] | None = None
        self._heard_at = clock.monotonic()
        self._outage = Outage("feed.lost", "feed.back")
        self._steady = True  # whether the last connection lasted
        self.lost_at: float | None = self._heard_at
        """Since when (monotonic seconds) there is no connection; None while there is one."""

    def subscribe(self, channel: str) -> None:
        """Ask for a channel; `on_confirmed` follows."""
        self._wanted.add(channel)
        self._enqueue("SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> None:
        """Let a channel go."""
        self._wanted.discard(channel)
        self._enqueue("UNSUBSCRIBE", channel)

    async def echo(self, within_s: float) -> None:
        """Wait for an answer on the connection: all earlier messages have arrived then.

        Raises:
            TimeoutError: there was no answer.
            ConnectionError: there is no connection, or it was lost meanwhile.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionError("The live feed has no connection.")
        token, answered = next(self._tokens), asyncio.get_running_loop().create_future()
        self._echo = (token, answered)
        try:
            async with asyncio.timeout(within_s):
                await connection.send_command("PING", token, check_health=False)
                await answered
        finally:
            self._echo = None

    def reconnect(self) -> None:
        """Replace the connection: it was found deaf. The server's address is resolved anew."""
        self._deaf.set()

    def _enqueue(self, command: str, channel: str) -> None:
        if self._connection is not None:
            self._commands.append((command, channel))
            self._changed.set()

    async def run(self) -> None:
        """Keep the feed alive until cancelled."""
        backoff = Backoff(_RECONNECT_FIRST_S, _RECONNECT_MOST_S)
        while True:
            connected_at: float | None = None
            connection = self._client.connection_pool.make_connection()
            try:
                # A server that accepts and then says nothing would hold this up for as long as it stays there.
                async with asyncio.timeout(2 * self._watchdog_s):
                    await connection.connect()
                connected_at = self._clock.monotonic()
                await self._serve(connection)
            except FeedDeaf:
                backoff.reset()
            except REDIS_FAULTS as error:
                if connected_at is not None:
                    # A server that accepts each connection and soon drops it is an outage like any other.
                    self._steady = self._clock.monotonic() - connected_at >= _STEADY_S
                    if self._steady:
                        backoff.reset()
                self._outage.continues(error)
            finally:
                self._connection = None
                if self.lost_at is None:
                    self.lost_at = self._clock.monotonic()
                await asyncio.shield(connection.disconnect(nowait=True))
            await asyncio.sleep(backoff.next_s())

    async def _serve(self, connection: Connection) -> None:
        self._connection = connection
        self._heard_at = self._clock.monotonic()
        self._unconfirmed = {}
        self._deaf.clear()
        self._commands = [("SUBSCRIBE", channel) for channel in self._wanted]
        self._changed.set()
        parts = (self._listen, self._dispatch, self._watch, self._hear_of_deafness)
        tasks = [asyncio.create_task(part(connection)) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            if self._echo is not None and not self._echo[1].done():
                self._echo[1].set_exception(ConnectionError("The live feed lost its connection."))
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def _listen(self, connection: Connection) -> None:
        while True:
            reply = await connection.read_response(disable_decoding=True)
            self._heard_at = self._clock.monotonic()
            if not isinstance(reply, list):  # the PONG of a connection without subscriptions
                self._found()
                self._answer(reply)
                continue
            reply_type, channel, payload = reply[0], reply[1], reply[-1]
            if reply_type == b"message":
                self._on_message(channel.decode(), payload)
            else:
                self._found()
                if reply_type == b"subscribe":
                    self._confirm(channel.decode())
                elif reply_type == b"pong":
                    self._answer(payload)

    def _answer(self, token: object) -> None:
        if self._echo is not None and self._echo[0] == token and not self._echo[1].done():
            self._echo[1].set_result(None)

    async def _hear_of_deafness(self, _: Connection) -> None:
        await self._deaf.wait()
        raise FeedDeaf

    def _found(self) -> None:
        if self.lost_at is not None:
            self._connects.add()
        self.lost_at = None
        if self._steady:
            self._outage.is_over()

    def _confirm(self, channel: str) -> None:
        # Only the answer to the latest SUBSCRIBE counts: an UNSUBSCRIBE may lie between it and an earlier one.
        left = self._unconfirmed.get(channel, 0) - 1
        if left > 0:
            self._unconfirmed[channel] = left
            return
        self._unconfirmed.pop(channel, None)
        if channel in self._wanted:
            self._on_confirmed(channel)

    async def _dispatch(self, connection: Connection) -> None:
        await connection.send_command("PING", check_health=False)
        while True:
            await self._changed.wait()
            self._changed.clear()
            commands, self._commands = self._commands, []
            for command, channels in _runs(commands):
                if command == "SUBSCRIBE":
                    for channel in channels:
                        self._unconfirmed[channel] = self._unconfirmed.get(channel, 0) + 1
                await connection.send_command(command, *channels, check_health=False)

    async def _watch(self, connection: Connection) -> None:
        # A half-open connection never errs by itself (redis-py sends PING, but does not wait for the PONG).
        while True:
            await asyncio.sleep(self._watchdog_s)
            if self._clock.monotonic() - self._heard_at > 2 * self._watchdog_s:
                raise TimeoutError("The pub/sub connection is silent.")
            self._outage.is_over()
            await connection.send_command("PING", check_health=False)


def _runs(commands: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Neighbours with the same command, joined into one; the order stays."""
    runs: list[tuple[str, list[str]]] = []
    for command, channel in commands:
        if not runs or runs[-1][0] != command:
            runs.append((command, []))
        runs[-1][1].append(channel)
    return runs
