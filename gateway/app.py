"""The gateway's composition root: parts, routes, error mapping, and the way out.

Above: cli.py. Below: everything in gateway/. `running` puts the parts together, `build_app` makes the ASGI application
of them, `serve` runs it under uvicorn with its own signal handling. Not here: what any part does.
"""

import asyncio
import contextlib
import errno
import gc
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp

from gateway.admission.admission import Admission, Limits
from gateway.admission.auth import Keyring
from gateway.admission.shared_links import SharedLinks
from gateway.admission.strict_models import StrictModels
from gateway.api import (
    ai_sdk,
    chat_completions,
    completions,
    dead_letters,
    embeddings,
    jobs,
    models,
    ops,
    page,
    responses,
    results,
)
from gateway.api.services import Services
from gateway.dialects.errors import body_of, failure_of, headers_of
from gateway.http.bodies import AsciiJSONResponse
from gateway.http.cors import Cors
from gateway.http.file_limit import room_for
from gateway.http.head_check import HeadCheck
from gateway.http.heavy_work import SWITCH_S
from gateway.http.middleware import RequestLog
from gateway.http.path_prefix import PathPrefix
from gateway.http.protocol import BoundedHttp, Room
from gateway.http.scrape import Scrape
from gateway.streams.hub import Hub
from gateway.streams.open_streams import OpenStreams
from gateway.streams.viewer_heartbeat import Presence
from shared.config.settings import Settings
from shared.model.bounds import CONNECTIONS, LISTEN_BACKLOG, REDIS_CONNECTIONS, SEND_BUFFER_BYTES
from shared.model.errors import (
    BoundReached,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RedisUnavailable,
    RequestError,
    StartupError,
    TailraceError,
    Unavailable,
)
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.lanes import parse_lanes
from shared.process.clock import SystemClock
from shared.process.ports import family_of
from shared.store.catalog import Catalogue
from shared.store.client import (
    REDIS_DOWN,
    REDIS_FULL,
    Client,
    RefusedByRedis,
    must_answer,
    name_of,
    open_client,
    warm,
)
from shared.store.conversations import Conversations
from shared.store.dead_letters import DeadLetters
from shared.store.fleet_metrics import Fleet, Publisher
from shared.store.jobs import Store
from shared.store.keys import Keys
from shared.store.link_secrets import LinkSecrets
from shared.store.memory_watch import MemoryWatch, memory_of
from shared.store.prompts import Prompts
from shared.store.queue import Queue
from shared.store.replay_log import ReplayLog
from shared.store.results import Results
from shared.store.server_check import check_arq_keys, check_server
from shared.store.server_marker import MarkerWatch
from shared.store.server_watch import ServerWatch
from shared.store.viewers import Viewers
from shared.telemetry.metrics import Buckets, Metrics

log = structlog.get_logger()

_NATIVE = re.compile(r"/v1/(jobs|dead-letters)(/|$)")
_CLOSE_S = 2
# Longer than the proxies before it hold a connection (nginx 60 s, HAProxy as set, Caddy 120 s): the side that closes
# first must be the one that sends requests, or a POST meets a connection that is just being closed.
_KEEP_ALIVE_S = 130
# uvicorn ticks ten times a second: a head that has not ended within 10 to 20 s, or a body that is too slow, is closed.
_TICK_S, _CHECK_TICKS = 0.1, 100


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Services]:
    """The parts of one gateway, connected and at work.

    Raises:
        StartupError: Redis is unfit.
        RedisUnavailable: Redis does not answer.
    """
    if settings.redis_url is None:
        raise StartupError("TAILRACE_REDIS_URL is not set; `tailrace up` brings its own, a gateway does not.")
    async with AsyncExitStack() as stack:

        def client(
            url: str, *, connections: int, command_timeout_s: float | None = 5.0, latency: Buckets | None = None
        ) -> Client:
            opened = open_client(url, connections=connections, command_timeout_s=command_timeout_s, latency=latency)
            stack.push_async_callback(opened.aclose)
            return opened

        queue_url = settings.redis_url.get_secret_value()
        stream_url = (settings.stream_redis_url or settings.redis_url).get_secret_value()
        metrics = Metrics(silent=not settings.metrics)
        queue_client = client(queue_url, connections=REDIS_CONNECTIONS, latency=metrics.command.of("queue"))
        job_client = client(stream_url, connections=REDIS_CONNECTIONS, latency=metrics.command.of("jobs"))
        feed_client = client(stream_url, connections=1, command_timeout_s=None)
        keys, clock = Keys(settings.key_prefix, settings.arq_prefixed), SystemClock()
        servers = {"queue": queue_client, "jobs": job_client}
        for each in servers.values():
            await check_server(each, keys)
            await warm(each)
        await check_arq_keys(queue_client, keys)
        watch = ServerWatch(servers, keys, clock, metrics)
        memory = MemoryWatch(servers, metrics)
        store = Store(
            job_client,
            keys,
            retention_s=settings.retention_s,
            failed_retention_s=settings.dead_letter_retention_s,
            metrics=metrics,
        )
        queue = Queue(queue_client, keys, metrics)
        letters = DeadLetters(
            job_client,
            keys,
            retention_s=settings.retention_s,
            dead_letter_retention_s=settings.dead_letter_retention_s,
            most=settings.max_dead_letters,
            most_of_tenant=settings.tenant_bounds.dead_letters,
            metrics=metrics,
        )
        hub = Hub(
            feed_client,
            ReplayLog(job_client, keys),
            keys,
            clock,
            reader_bytes=settings.reader_bytes,
            heartbeat_s=settings.heartbeat_s,
            tail_check_s=settings.tail_check_s,
            redis_patience_s=settings.redis_patience_s,
            send_timeout_s=settings.send_timeout_s,
            metrics=metrics,
        )
        lanes = [lane.name for lane in parse_lanes(settings.lanes)]
        limits = Limits(
            timeout_s=settings.timeout_s,
            max_timeout_s=settings.max_timeout_s,
            retention_s=settings.retention_s,
            unstored_s=settings.unstored_retention_s,
            listed_s=max(settings.retention_s, settings.dead_letter_retention_s),
            max_depth=settings.max_depth,
            grace_s=settings.disconnect_grace_s,
            models=settings.served_models,
            lanes=lanes,
            bounds=settings.tenant_bounds.in_memory(await memory_of(job_client)),
        )
        catalogue = Catalogue(queue_client, keys)
        # Where the settings name the models, the limits say which ones there are.
        strict = StrictModels(catalogue, clock) if settings.strict_models and not settings.served_models else None
        fleet = Fleet(queue_client, keys)
        publisher = Publisher(fleet, metrics, clock, "gateway")
        viewers = Viewers(job_client, keys)
        presence = Presence(hub, viewers, queue, publisher.process, metrics=metrics)
        # A link is good while its job can be read.
        kept_s = LONGEST_TIMEOUT_S + max(settings.retention_s, settings.dead_letter_retention_s)
        secrets = None if settings.secret else LinkSecrets(job_client, keys, kept_s=kept_s)
        keyring = Keyring(settings.api_keys)
        links = SharedLinks(
            secrets,
            clock,
            keyring.generations,
            settings.secret.get_secret_value() if settings.secret else "",
            prefix=settings.path_prefix or "",
        )

        async def on_loss() -> None:
            hub.lose()
            await links.share()

        marker = MarkerWatch("jobs", job_client, keys, on_loss)
        with must_answer():
            await marker.check()
            await links.share()
        services = Services(
            settings=settings,
            clock=clock,
            store=store,
            results=Results(job_client, keys),
            conversations=Conversations(job_client, keys, retention_s=settings.retention_s),
            prompts=Prompts(job_client, keys),
            queue=queue,
            dead_letters=letters,
            hub=hub,
            admission=Admission(store, queue, clock, limits, publisher.process, strict, memory),
            presence=presence,
            open_streams=OpenStreams(settings.tenant_bounds, metrics),
            viewers=viewers,
            keyring=keyring,
            links=links,
            catalogue=catalogue,
            watch=watch,
            metrics=metrics,
            scrape=Scrape(publisher, fleet, queue, letters, lanes),
        )
        metrics.draining.of().read = lambda: services.draining
        parts = [
            hub.run(),
            presence.run(),
            watch.run(),
            memory.run(),
            marker.run(),
            *([publisher.run()] if settings.metrics else []),
        ]
        tasks = services.tasks = [asyncio.create_task(part) for part in parts]
        try:
            yield services
            await presence.tell()
            if settings.metrics:
                await publisher.last_words()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


ROUTES: Final[tuple[BaseRoute, ...]] = (
    *jobs.routes,
    *results.routes,
    *dead_letters.routes,
    *chat_completions.routes,
    *completions.routes,
    *embeddings.routes,
    *responses.routes,
    *ai_sdk.routes,
    *models.routes,
    *ops.routes,
    *page.routes,
)
"""All addresses of a gateway."""


def build_app(services: Services) -> ASGIApp:
    """The ASGI application of these parts."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        TailraceError: _on_error,
        HTTPException: _on_http_exception,
        ClientDisconnect: _on_departure,
        Exception: _on_defect,
    }
    handlers |= dict.fromkeys((*REDIS_DOWN, *REDIS_FULL), _on_redis_error)
    app = Starlette(
        routes=ROUTES,
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    app.state.services = services
    checked = HeadCheck(app, services.settings.hosts, error_response)
    logged = RequestLog(checked, services.clock, services.metrics)
    origins, prefix = services.settings.cors_origins, services.settings.path_prefix
    answered: ASGIApp = Cors(logged, origins) if origins else logged
    return PathPrefix(answered, prefix) if prefix else answered


# They are coroutines, since Starlette would run plain functions in a thread.


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TailraceError)  # noqa: S101  # what it is registered for
    return error_response(request.url.path, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # what it is registered for
    path, method = request.url.path, request.method
    if error.status_code == HTTPStatus.NOT_FOUND:
        return error_response(path, NotFound(f"There is nothing at {path}."))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _allowed(request)
        return error_response(path, MethodNotAllowed(f"{method} is not allowed here; {allowed} is.", allowed=allowed))
    return error_response(path, InvalidRequest(error.detail))


def _allowed(request: Request) -> str:
    """All methods of this address; Starlette only tells those of the first of its routes."""
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    here = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for each in here for method in each.methods or ()}))


async def _on_redis_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedByRedis):
        log.error("request.redis_refuses", error=name_of(error), reason=error.sentence)
    else:
        log.warning("request.redis_unavailable", error=name_of(error))
    return error_response(request.url.path, RedisUnavailable("Redis can't be reached just now; try again."))


async def _on_departure(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the log counts it


async def _on_defect(request: Request, _: Exception) -> Response:
    return error_response(request.url.path, InternalError("Tailrace failed inside; its log has the cause."))


def error_response(path: str, error: TailraceError) -> Response:
    """An error in the caller's dialect: problem+json (RFC 9457), OpenAI's envelope, or the AI SDK's bare sentence."""
    if path.startswith("/v1/") and not _NATIVE.match(path):
        failure = failure_of(error)
        response: Response = AsciiJSONResponse(body_of(failure), failure.status, headers_of(failure))
    elif path.startswith("/api/"):
        response = ai_sdk.sentence(failure_of(error))
    else:
        response = _problem(error)
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = error.allowed
    return response


def _problem(error: TailraceError) -> Response:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase if error.status != 499 else "Client Closed Request",
        "status": error.status,
        "detail": str(error),
        "code": error.code,
    }
    if isinstance(error, RequestError) and error.param is not None:
        body["param"] = error.param
    headers = {}
    if isinstance(error, Unavailable | BoundReached):
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return AsciiJSONResponse(body, error.status, headers, media_type="application/problem+json")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: draining is ours (facts: it would wait for streams for ever)."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], min_body_rate: int) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._min_body_bytes = min_body_rate * _CHECK_TICKS * _TICK_S

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Nothing: `serve` below has its handlers in place."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when the sockets are served."""
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. One look at all connections now and then costs a request nothing, a timer each would."""
        if counter % _CHECK_TICKS == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttp):
                    connection.check(self._min_body_bytes)
        return await super().on_tick(counter)


def make_server(services: Services, on_ready: Callable[[], None], *, connections: int = CONNECTIONS) -> uvicorn.Server:
    """uvicorn for these parts, as every gateway runs it."""
    settings = services.settings
    room = Room(connections, settings.max_connections_per_address, frozenset(settings.proxies))
    config = uvicorn.Config(
        build_app(services),
        http=partial(BoundedHttp, room=room),  # type: ignore[arg-type]  # it is only called
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # nobody asks for a caller's address, and each reader would keep a frame of it
        backlog=LISTEN_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    return _Server(config, on_ready, settings.min_body_rate)


async def serve(settings: Settings, *, ready: Callable[[], None] = lambda: None, share_port: bool = False) -> int:
    """Run the gateway until SIGINT or SIGTERM; the process's exit code.

    With `share_port`, other gateways may listen on the same port: the kernel spreads connections over them.

    Raises:
        StartupError: Redis is unfit, or the port is taken.
        RedisUnavailable: Redis does not answer.
    """
    sys.setswitchinterval(SWITCH_S)
    connections = room_for(CONNECTIONS)
    listener = listen(settings.host, settings.port, settings.send_timeout_s, share=share_port)
    with contextlib.closing(listener):
        async with running(settings) as services:

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
            draining = asyncio.create_task(_drain(services, server, stop, now))
            watching = asyncio.create_task(_watch(services, server))
            await server.serve(sockets=[listener])
            draining.cancel()
            watching.cancel()
            status = 1 if watching.done() and not watching.cancelled() else 0
    log.info("gateway.stopped", status=status)
    return status


async def _watch(services: Services, server: uvicorn.Server) -> None:
    """End the process when a part of it has died: a gateway without its feed or its timer only looks alive."""
    done, _ = await asyncio.wait(services.tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        log.critical("gateway.part_died", exc_info=None if task.cancelled() else task.exception())
    server.should_exit = True


def listen(host: str, port: int, send_timeout_s: float, *, share: bool = False) -> socket.socket:
    """A listening socket with small send buffers, whose connections end when a peer takes nothing for so long.

    One that shares its port is only bound: it listens when it is served. Connections are better off with the others
    until then.

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
            # uvicorn closes a connection in good order, which for a frozen reader would take for ever: RFC 5482.
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


async def _drain(services: Services, server: uvicorn.Server, stop: asyncio.Event, now: asyncio.Event) -> None:
    """On the first signal let readers go who can come back, wait for the others; the second cuts that short.

    Before it, proxies that check `/health/ready` get the time to send nothing more: they find a 503 there.
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
