"""Run the gateway as a process: uvicorn, its listening socket, and the drain after a signal.

Not here: the parts and the addresses of a gateway (app.py).
"""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
from collections.abc import Callable, Generator
from functools import partial

import structlog
import uvicorn

from gateway.api.services import Services
from gateway.app import build_app, running
from gateway.http.file_limit import room_for
from gateway.http.heavy_work import SWITCH_S
from gateway.http.protocol import BoundedHttp, Room
from gateway.specs.kinds import ADMITTED_KINDS, AdmittedKinds
from shared.config.settings import Settings
from shared.model.bounds import CONNECTIONS, LISTEN_BACKLOG, SEND_BUFFER_BYTES
from shared.model.errors import StartupError
from shared.process.ports import family_of

log = structlog.get_logger()

_CLOSE_S = 2
# Longer than the proxies before it hold a connection (nginx 60 s, HAProxy as set, Caddy 120 s): the side that closes
# first must be the one that sends requests, or a POST meets a connection that is just being closed.
_KEEP_ALIVE_S = 130
# uvicorn ticks ten times a second: a head that has not ended within 10 to 20 s, or a body that is too slow, is closed.
_TICK_S, _CHECK_TICKS = 0.1, 100


class _Server(uvicorn.Server):
    """Run uvicorn without its own signal handling, which would wait for open streams for ever."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], min_body_rate: int) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._min_body_bytes = min_body_rate * _CHECK_TICKS * _TICK_S

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Install no handlers: `serve` has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Call `on_ready` when the sockets are served."""
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Check all connections from time to time: a timer for each one would slow down every request."""
        if counter % _CHECK_TICKS == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttp):
                    connection.check(self._min_body_bytes)
        return await super().on_tick(counter)


def make_server(services: Services, on_ready: Callable[[], None], *, connections: int = CONNECTIONS) -> uvicorn.Server:
    """Build the uvicorn server of these services, as every gateway runs it."""
    settings = services.settings
    room = Room(connections, settings.max_connections_per_address, frozenset(settings.proxies))
    config = uvicorn.Config(
        build_app(services),
        http=partial(BoundedHttp, room=room),  # type: ignore[arg-type]  # it is only called
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # the caller's address is not used, and each reader would hold a frame for it
        backlog=LISTEN_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    return _Server(config, on_ready, settings.min_body_rate)


async def serve(
    settings: Settings,
    kinds: AdmittedKinds = ADMITTED_KINDS,
    *,
    ready: Callable[[], None] = lambda: None,
    share_port: bool = False,
) -> int:
    """Run a gateway that admits these kinds of jobs until SIGINT or SIGTERM, and return the process's exit code.

    With `share_port`, other gateways may listen on the same port: the kernel spreads connections over them.

    Raises:
        StartupError: Redis is unfit, or the port is taken.
        RedisUnavailable: Redis does not answer.
    """
    sys.setswitchinterval(SWITCH_S)
    connections = room_for(CONNECTIONS)
    listener = listen(settings.host, settings.port, settings.send_timeout_s, share=share_port)
    with contextlib.closing(listener):
        async with running(settings, kinds) as services:

            def on_ready() -> None:
                gc.collect()
                gc.freeze()
                log.info("gateway.ready", port=listener.getsockname()[1])
                ready()

            server = make_server(services, on_ready, connections=connections)
            stop, now = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()

            def on_signal() -> None:
                (now if stop.is_set() else stop).set()

            for signum in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(signum, on_signal)
            draining = asyncio.create_task(drain(services, server, stop, now))
            watching = asyncio.create_task(end_with_parts(services, server))
            await server.serve(sockets=[listener])
            draining.cancel()
            watching.cancel()
            status = 1 if watching.done() and not watching.cancelled() else 0
    log.info("gateway.stopped", status=status)
    return status


async def end_with_parts(services: Services, server: uvicorn.Server) -> None:
    """End the process when one of its tasks has died: a gateway without its feed or its timers only looks alive."""
    done, _ = await asyncio.wait(services.tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        log.critical("gateway.part_died", exc_info=None if task.cancelled() else task.exception())
    server.should_exit = True


def listen(host: str, port: int, send_timeout_s: float, *, share: bool = False) -> socket.socket:
    """Open a listening socket with small send buffers; its connections end if a peer stops reading for too long.

    A socket that shares its port is only bound: it listens when it is served. Until then the kernel gives connections
    to the other gateways.

    Raises:
        StartupError: the address can't be bound; the sentence says why.
    """
    listener = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            # uvicorn would wait for ever for a frozen reader to take its last bytes (RFC 5482).
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout_s * 1000))
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        if not share:
            listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(f"Port {port} on {host} is in use; set TAILRACE_PORT to another one.") from error
        raise StartupError(f"The gateway can't listen on {host}, port {port}: {error.strerror}.") from error
    return listener


async def drain(services: Services, server: uvicorn.Server, stop: asyncio.Event, now: asyncio.Event) -> None:
    """Disconnect resumable readers on the first signal, and wait for the others until a second signal.

    Before that, `/health/ready` is a 503 for `drain_delay_s`, so that proxies stop sending requests.
    """
    await stop.wait()
    services.leaving = True
    if services.settings.drain_delay_s:
        log.info("gateway.leaving", drain_delay_s=services.settings.drain_delay_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(services.settings.drain_delay_s):
                await now.wait()
    services.draining = True
    readers = services.hub.readers
    log.info("gateway.draining", readers=len(readers))
    for reader in readers:
        if reader.resumable:
            reader.break_off("This gateway is shutting down.")
    waits = [asyncio.create_task(services.hub.emptied()), asyncio.create_task(now.wait())]
    await asyncio.wait(waits, timeout=services.settings.drain_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    for reader in services.hub.readers:
        reader.break_off("This gateway is shutting down.")
    server.should_exit = True
