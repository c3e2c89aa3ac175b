"""Connections to Redis or Valkey, with limits and time-outs, and the Functions loaded on them.

Not here: the names of keys (keys.py), and the functions' code (shared/store/functions).
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.model.bounds import REDIS_CONNECTIONS
from shared.model.errors import RedisUnavailable, StartupError
from shared.model.metrics import Buckets
from shared.process.clock import SystemClock
from shared.store.function_library import LIBRARY, Library, version_of
from shared.store.keys import Keys
from shared.store.multiplexed import Multiplexer
from shared.store.redis_address import certificate_problem, make_pool
from shared.store.refusals import ANSWERS, PassingRefusal, RedisAnswer, RefusedByRedis, name_of, refusal_of

Client = Redis
"""The client type for other packages, which do not import redis-py; its answers are bytes."""

REDIS_FAULTS: tuple[type[Exception], ...] = (RedisError, OSError)
"""The errors of redis-py: an unreachable server (a refused connection is a bare OSError), or an error answer."""
REDIS_FULL: tuple[type[Exception], ...] = (OutOfMemoryError,)
"""The errors of a server whose memory is full."""
REDIS_DOWN: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, OSError, RedisAnswer)
"""Those that a caller waits out: the server can't be reached, or can't serve."""

# A pooled connection that died while idle is found by its first command; one more try makes that invisible.
_RETRIES = 1
_CONNECT_TIMEOUT_S = 2.0
_COMMAND_TIMEOUT_S = 5.0
_TWO_WORDS = ("FUNCTION", "CONFIG", "CLIENT", "SCRIPT")
_OLDEST = (7, 2)
UNUSED_LIBRARY_S = 86_400.0
"""Functions of another version are deleted if they were not called for this long."""
_CLOCK: Final = SystemClock()

log = structlog.get_logger()


def open_client(
    url: str,
    *,
    connections: int = REDIS_CONNECTIONS,
    command_timeout_s: float | None = _COMMAND_TIMEOUT_S,
    latency: Buckets | None = None,
) -> Redis:
    """A client with its own bounded pool; it connects when first used.

    `command_timeout_s` None is for connections that block on purpose. `latency` observes each command's round trip.

    Raises:
        StartupError: the address has options that can't be used.
    """
    pool = make_pool(
        url,
        max_connections=connections,
        timeout=_COMMAND_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=command_timeout_s,
        health_check_interval=0,
        # Two commands for each connection that a restricted user may not have the right to.
        lib_name=None,
        lib_version=None,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), _RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, OSError],
    )
    pool.connection_class = type("Connection", (_Connection, pool.connection_class), {})
    return _Client(pool, latency, command_timeout_s)


async def warm(client: Client) -> None:
    """Open all connections of a client that speaks TLS, since the first callers would wait for them.

    Raises:
        StartupError, RedisUnavailable: as `require_redis`.
    """
    pool = client.connection_pool
    if issubclass(pool.connection_class, SSLConnection):
        with require_redis():
            if (multiplexer := _multiplexer_of(client)) is not None:
                await multiplexer.connect()
            await asyncio.gather(*(client.ping() for _ in range(pool.max_connections)))


async def drop_idle_connections(client: Client) -> None:
    """Let the client's next commands connect anew, to whichever server then has the address."""
    if (multiplexer := _multiplexer_of(client)) is not None:
        multiplexer.retire()
    # The pool's own method waits for each to be closed, and drops one that another caller has taken meanwhile.
    for connection in tuple(client.connection_pool._available_connections):
        await connection.disconnect(nowait=True)


class _Client(Redis):
    """A client that sends short commands on one connection, times its commands, and names a command that is refused.

    Pipelines and pub/sub are not seen here.
    """

    def __init__(self, pool: BlockingConnectionPool, latency: Buckets | None, timeout_s: float | None) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True  # as `Redis.from_pool` does
        self.multiplexer = None if timeout_s is None else Multiplexer(pool.make_connection, timeout_s=timeout_s)
        self._latency = latency
        self.answered_at: float | None = None
        """When the last function call was sent that was answered (s, `SystemClock.elapsed`)."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        asked_at = _CLOCK.monotonic()
        try:
            if self.multiplexer is not None and self.multiplexer.takes(args):
                return self._convert(args[0], await self.multiplexer.call(args), options)
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RefusedByRedis as error:
            error.command = error.command or " ".join(str(part) for part in args[: 2 if args[0] in _TWO_WORDS else 1])
            raise
        except PassingRefusal:
            # The other connections lead to the same server: a replica would still answer their reads.
            await drop_idle_connections(self)
            raise
        finally:
            if self._latency is not None:
                self._latency.observe(_CLOCK.monotonic() - asked_at)

    def _convert(self, word: str, answer: Any, options: dict[str, Any]) -> Any:
        """Convert an answer as redis-py does. The option `keys` is for its cache."""
        options.pop("keys", None)
        convert = self.response_callbacks.get(word)
        return answer if convert is None else convert(answer, **options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self.multiplexer is not None:
            await self.multiplexer.aclose()
        await super().aclose(close_connection_pool)


def _multiplexer_of(client: Client) -> Multiplexer | None:
    return client.multiplexer if isinstance(client, _Client) else None


class _Connection(AbstractConnection):
    """redis-py's connection, with two of its ways mended.

    A cancelled send stays cancelled: it is bounded by `asyncio.wait_for`, which before Python 3.12 may swallow a
    cancellation (python/cpython#86296), and a loop that is cancelled once, as all of ours are, would never end. And an
    error answer is raised as the exception of its sort (refusals.py).
    """

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ANSWERS as error:
            refusal = refusal_of(error)
            if isinstance(refusal, PassingRefusal):
                # Another server may have taken this one's place: the next connection asks for its address anew.
                await self.disconnect(nowait=True)
            if refusal is None:
                raise
            raise refusal from error

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        timeout_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(timeout_s):
                await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = timeout_s


class Outage:
    """Log the start and the end of an outage once; log each try in between for debugging.

    `lost` and `back` are the names of the log's events.
    """

    def __init__(self, lost: str, back: str) -> None:
        self._lost, self._back = lost, back
        self._lasts = False

    def continues(self, error: Exception) -> None:
        """Another try failed."""
        report = log.debug if self._lasts else log.warning
        if isinstance(error, RefusedByRedis):
            report(self._lost, error=name_of(error), reason=error.sentence)
        else:
            report(self._lost, error=name_of(error))
        self._lasts = True

    def is_over(self) -> None:
        """A try succeeded."""
        if self._lasts:
            log.info(self._back)
            self._lasts = False


class Backoff:
    """The pauses between tries, each twice as long as the one before it, up to a most."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._pause_s = first_s

    def next_s(self) -> float:
        """The pause before the next try."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._most_s)
        return pause_s

    def reset(self) -> None:
        """A try succeeded."""
        self._pause_s = self._first_s


class Functions:
    """The atomic steps of shared/store/functions, called by name on one client."""

    def __init__(self, client: Redis, keys: Keys, library: Library = LIBRARY) -> None:
        self._client = client
        self._clock_key = keys.clock
        self._library = library

    async def call(self, name: str, keys: Sequence[str], *args: str | bytes | int) -> Any:
        """Run one step; a server without this library (a new replica, a flush) gets it first.

        Raises:
            RedisError, OSError: the server can't be reached or refused; see `REDIS_DOWN`.
        """
        asked_at = _CLOCK.elapsed()
        answer = await self._run(name, len(keys) + 1, *keys, self._clock_key, *args, self._heard_ms(asked_at))
        if isinstance(self._client, _Client):
            self._client.answered_at = asked_at
        return answer

    def _heard_ms(self, now: float) -> int | str:
        """Say how long ago the client's last answer was asked for: the server's clock is compared with it."""
        answered_at = self._client.answered_at if isinstance(self._client, _Client) else None
        return "" if answered_at is None else int((now - answered_at) * 1000)

    async def refused(self, words: Sequence[str]) -> list[int]:
        """Try commands, each as its number of words and the words; the places of those that are refused, from 1.

        It needs no right to any key itself.

        Raises:
            RedisError, OSError: the server can't be reached or refused; see `REDIS_DOWN`.
        """
        places: list[int] = await self._run("refused", 0, *words)
        return places

    async def _run(self, name: str, *args: str | bytes | int) -> Any:
        command = ("FCALL", self._library.function(name), *args)
        try:
            return await self._client.execute_command(*command)
        except ResponseError as error:
            if not _is_not_found(error):
                raise
        await self.load()
        return await self._client.execute_command(*command)

    async def load(self) -> None:
        """Load the library, unless it is there. Its name says which source it has: nothing is ever replaced.

        A library that is there is left alone: it knows since when its server has been awake.
        """
        found = await self._client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", self._library.name)
        if found:
            return
        try:
            await self._client.execute_command("FUNCTION", "LOAD", self._library.code)
        except ResponseError as error:
            if "already exists" not in str(error):  # another process was faster
                raise

    async def drop_unused(self, unused_s: float = UNUSED_LIBRARY_S) -> list[str]:
        """Delete the libraries of other versions that no process has called for this long; the names of these.

        A process that calls one all the same loads it again. Raises one of `REDIS_FAULTS`.
        """
        dropped: list[str] = []
        for library in await self._client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "tailrace_*"):
            name = dict(zip(library[::2], library[1::2], strict=True))[b"library_name"].decode()
            version = version_of(name)
            if version in (None, self._library.version):
                continue
            if await self._idle_s(f"tailrace_idle_{version}") >= unused_s:
                await self._client.execute_command("FUNCTION", "DELETE", name)
                log.info("functions.dropped", library=name)
                dropped.append(name)
        return dropped

    async def _idle_s(self, function: str) -> float:
        try:
            return int(await self._client.execute_command("FCALL", function, 0)) / 1000
        except ResponseError as error:
            if not _is_not_found(error):
                raise
            return 0.0  # another process has just deleted it


def _is_not_found(error: ResponseError) -> bool:
    return "Function not found" in str(error)


@contextmanager
def require_redis() -> Iterator[None]:
    """Make any of `REDIS_FAULTS` a RedisUnavailable: at a start there is nothing yet that could wait for Redis.

    Raises:
        StartupError: Redis refuses this user, database or command; waiting would not help.
        RedisUnavailable: it does not answer, or can't serve now.
    """
    try:
        yield
    except RefusedByRedis as error:
        raise StartupError(error.sentence) from error
    except REDIS_FAULTS as error:
        if problem := certificate_problem(error):
            raise StartupError(
                f"The certificate of Redis is not accepted: {problem.rstrip('.')}; correct the name in its address, or "
                "add ssl_ca_certs or ssl_check_hostname to it."
            ) from error
        raise RedisUnavailable(f"Redis does not answer: {str(error).rstrip('.')}.") from error
