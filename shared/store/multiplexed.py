"""One connection for the short commands of all tasks.

The commands of one turn of the event loop go out in one write, and their answers are matched in order
(shared/store/wire/answer_matching.py). redis-py opens the connection, with all options of its address. Not here:
commands that block, transactions and pub/sub, which need a connection of their own, and the meaning of error answers
(client.py).
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.model.bounds import SHARED_COMMAND_BYTES, SHARED_UNANSWERED_BYTES
from shared.store.refusals import RefusedByRedis, error_of
from shared.store.wire.answer_matching import AnswerMatcher, OutOfStep

SHORT: Final = frozenset(
    (
        *("FCALL", "EXISTS", "DEL", "GET", "GETRANGE", "MGET", "SET", "HGET", "HGETALL", "HMGET"),
        *("ZRANGE", "ZRANK", "ZREM", "ZREVRANGE", "ZREVRANGEBYLEX", "ZSCORE"),
    )
)
"""The commands that neither block nor change their connection."""
_CLOSE_S: Final = 1.0
_PAUSE_S: Final = 0.04
"""The pause before a command is sent once more, as in redis-py's pool."""


class ConnectionState(Enum):
    """The condition of one connection."""

    UP = "commands are written to it"
    RETIRED = "only answers are awaited, then it is closed"
    ENDED = "it is closed, and every command has its answer or an error"


class Multiplexer:
    """The shared connection of one client: it opens with the first command, and again after it was lost.

    `make_connection` returns a new connection of redis-py. Within `timeout_s` each write must be answered.
    """

    def __init__(self, make_connection: Callable[[], AbstractConnection], *, timeout_s: float) -> None:
        self._make_connection = make_connection
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._retired: set[_Link] = set()
        self._connecting: asyncio.Task[_Link] | None = None
        self._waiting_bytes = 0
        self._closed = False

    def takes(self, command: Sequence[Any]) -> bool:
        """Whether this command is short, and fits between the others."""
        if command[0] not in SHORT:
            return False
        size = sum([len(part) for part in command if isinstance(part, (str, bytes))])
        unanswered = self._waiting_bytes if self._link is None else self._link.unanswered_bytes
        return size <= SHARED_COMMAND_BYTES and unanswered + size <= SHARED_UNANSWERED_BYTES

    async def call(self, command: Sequence[Any]) -> Any:
        """Send one command, and return its answer.

        It is sent once more if its connection is lost meanwhile: a connection that died while idle is found so.

        Raises:
            RedisConnectionError, RedisTimeoutError: the server can't be reached, or did not answer in time.
            RedisError: the server answered with an error (refusals.py).
        """
        encoded: bytes = pack_command(tuple(command))
        link = self._link or await self._connected(len(encoded))
        try:
            return await link.send(encoded)
        except (RedisConnectionError, RedisTimeoutError):
            await asyncio.sleep(_PAUSE_S)
        link = self._link or await self._connected(len(encoded))
        return await link.send(encoded)

    async def connect(self) -> None:
        """Open the connection, unless it is open. Raises one of the errors of a connection."""
        if self._link is None:
            await self._connected(0)

    def retire(self) -> None:
        """Send the next commands on a new connection; this one is closed when it has given its answers."""
        if (link := self._link) is not None:
            self._link = None
            self._retired.add(link)
            link.retire()

    async def aclose(self) -> None:
        """Close all connections. Callers that wait get a RedisConnectionError, and so do all later ones."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        links = [link for link in (*self._retired, self._link) if link is not None]
        for link in links:
            link.end(RedisConnectionError, "this client was closed")
        await asyncio.gather(*(link.wait_closed() for link in links))

    async def _connected(self, waiting_bytes: int) -> "_Link":
        """Wait for the connection. All callers wait for one attempt, and share its error."""
        if self._closed:
            raise RedisConnectionError("this client was closed")
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_retrieve)
        connecting = self._connecting
        self._waiting_bytes += waiting_bytes
        try:
            await asyncio.wait([connecting])
        finally:
            self._waiting_bytes -= waiting_bytes
        if connecting.cancelled():  # by `aclose`; its waiters were not cancelled
            raise RedisConnectionError("this client was closed")
        return connecting.result()

    async def _connect(self) -> "_Link":
        connection = self._make_connection()
        link: _Link | None = None
        try:
            await connection.connect()
            await _check_echo(connection)
            link = self._link = _Link(connection, self._timeout_s, self._forget)
        finally:
            self._connecting = None
            if link is None:
                connection._close()
        return link

    def _forget(self, link: "_Link") -> None:
        self._retired.discard(link)
        if self._link is link:
            self._link = None


def _retrieve(task: "asyncio.Task[_Link]") -> None:
    """Mark the error of a connection attempt as seen: all callers that waited for it may have been cancelled."""
    if not task.cancelled():
        task.exception()


async def _check_echo(connection: AbstractConnection) -> None:
    """Check that this user may ECHO, and that no other answer is under way.

    Raises:
        RedisError: one of the errors of a connection, or of an error answer.
    """
    token = secrets.token_hex(8).encode()
    await connection.send_command("ECHO", token, check_health=False)
    try:
        answer = await connection.read_response(disable_decoding=True)
    except RefusedByRedis as error:
        error.command = "ECHO"
        raise
    if answer != token or await connection.can_read_destructive():
        raise RedisConnectionError("the first answer is not the one to the first command")


class _Link(asyncio.Protocol):
    """One open connection, taken over from redis-py: its writes, its answers, and one timer for all commands."""

    def __init__(self, connection: AbstractConnection, timeout_s: float, on_end: "Callable[[_Link], None]") -> None:
        """Take over the connection.

        Raises:
            RedisConnectionError: it was lost meanwhile.
        """
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            raise RedisConnectionError("the server closed the new connection")
        self._connection = connection  # its writer closes the socket when it is deleted
        self._transport = writer.transport
        self._transport.set_protocol(self)
        self._loop = asyncio.get_running_loop()
        self._matcher: AnswerMatcher[asyncio.Future[Any]] = AnswerMatcher(
            secrets.token_hex(8).encode(), error_of, asyncio.Future.done
        )
        self._timeout_s = timeout_s
        self._on_end = on_end
        self._state = ConnectionState.UP
        self._write_is_due = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._lost = self._loop.create_future()

    @property
    def unanswered_bytes(self) -> int:
        """The size of the commands that have no answer yet, those of cancelled callers included."""
        return self._matcher.unanswered_bytes

    def send(self, command: bytes) -> "asyncio.Future[Any]":
        """Write a command in this turn of the event loop; the future gets its answer or an error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._state is ConnectionState.ENDED:
            future.set_exception(RedisConnectionError("the connection was lost"))
            return future
        self._matcher.add(future, command)
        self._write_soon()
        return future

    def retire(self) -> None:
        """Close the connection as soon as every command has its answer."""
        if self._state is ConnectionState.UP:
            self._state = ConnectionState.RETIRED
            self._end_if_done()

    def end(self, kind: type[RedisError], text: str) -> None:
        """Close the connection; each command without an answer gets an error of its own."""
        if self._state is ConnectionState.ENDED:
            return
        self._state = ConnectionState.ENDED
        if self._timer is not None:
            self._timer.cancel()
        if self._matcher.is_idle:
            self._transport.close()
        else:
            self._transport.abort()
        self._connection._close()
        for future in self._matcher.abandon_all():
            if not future.done():
                future.set_exception(kind(text))
        self._on_end(self)

    async def wait_closed(self) -> None:
        """Wait until the socket of an ended connection is closed; a server may delay the end of TLS."""
        await asyncio.wait([self._lost], timeout=_CLOSE_S)
        self._transport.abort()

    def _write_soon(self) -> None:
        if not self._write_is_due:
            self._write_is_due = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._write_is_due = False
        if self._paused or self._state is ConnectionState.ENDED:
            return
        if data := self._matcher.next_write(self._loop.time()):
            self._transport.write(data)
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_s, self._check_time)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._state is ConnectionState.RETIRED and self._matcher.is_idle:
            self.end(RedisConnectionError, "the connection was replaced")

    def _check_time(self) -> None:
        """End a connection if its oldest write has had no answer for too long: its later answers would be late too."""
        self._timer = None
        sent_at = self._matcher.oldest_sent_at
        if sent_at is None:
            return
        left_s = sent_at + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self.end(RedisTimeoutError, "the server did not answer in time")
        else:
            self._timer = self._loop.call_later(left_s, self._check_time)

    # The event loop calls these.

    def data_received(self, data: bytes) -> None:
        """Give each caller its answer."""
        try:
            for future, answer in self._matcher.receive(data):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except OutOfStep as error:
            self.end(RedisConnectionError, f"the answers are out of step: {error}")
        self._end_if_done()

    def connection_lost(self, error: Exception | None) -> None:
        """Give each caller without an answer an error."""
        if not self._lost.done():
            self._lost.set_result(None)
        self.end(RedisConnectionError, f"the server closed the connection: {error or 'end of file'}")

    def pause_writing(self) -> None:
        """Write nothing more: the server does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write the commands that have been queued meanwhile."""
        self._paused = False
        self._write_soon()
