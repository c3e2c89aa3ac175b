"""Compose the gateway: its parts, its routes and its layers.

`running` builds and connects the parts, `build_app` makes the ASGI application of them. Not here: the process, its
socket and the drain (server.py).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.admission.admission import Admission
from gateway.admission.auth import Keyring
from gateway.admission.kinds import ADMITTED_KINDS, AdmittedKinds
from gateway.admission.limits import Limits
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
    tasks,
)
from gateway.api.services import Services
from gateway.http.cors import Cors
from gateway.http.errors import ErrorResponses
from gateway.http.head_check import HeadCheck
from gateway.http.heavy_work import HeavyWork
from gateway.http.middleware import RequestLog
from gateway.http.path_prefix import PathPrefix
from gateway.http.scrape import Scrape
from gateway.streams.hub import Hub
from gateway.streams.open_streams import OpenStreams
from gateway.streams.viewer_heartbeat import ViewerHeartbeat
from shared.config.settings import Settings
from shared.model.bounds import REDIS_CONNECTIONS
from shared.model.errors import (
    StartupError,
)
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.lanes import parse_lanes
from shared.model.tenant_bounds import TenantBounds
from shared.process.clock import Clock, SystemClock
from shared.store.catalog import ModelCatalog
from shared.store.client import (
    Client,
    open_client,
    require_redis,
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
from shared.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class _Backend:
    """Hold the Redis clients of one gateway, and the names of the keys that they use."""

    queue: Client
    jobs: Client
    feed: Client
    keys: Keys

    @property
    def servers(self) -> dict[str, Client]:
        """Return the clients by their server's role."""
        return {"queue": self.queue, "jobs": self.jobs}


@dataclass(frozen=True, slots=True)
class _Process:
    """Hold the clock of this process, and its telemetry."""

    clock: Clock
    metrics: Metrics
    memory: MemoryWatch
    fleet: Fleet
    publisher: Publisher


@asynccontextmanager
async def running(settings: Settings, kinds: AdmittedKinds = ADMITTED_KINDS) -> AsyncIterator[Services]:
    """Connect the parts of one gateway, which admits these kinds of jobs, and run their tasks.

    Raises:
        StartupError: Redis is unfit, or a setting names an unknown kind.
        RedisUnavailable: Redis does not answer.
    """
    _check_tasks_kind(settings, kinds)
    async with AsyncExitStack() as stack:
        metrics, clock = Metrics(silent=not settings.metrics), SystemClock()
        backend = await _connect(stack, settings, metrics)
        memory = MemoryWatch(backend.servers, metrics)
        fleet = Fleet(backend.queue, backend.keys)
        publisher = Publisher(fleet, metrics, clock, "gateway")
        process = _Process(clock, metrics, memory, fleet, publisher)
        tenant_bounds = settings.tenant_bounds.in_memory(await memory_of(backend.jobs))
        services = _build_services(settings, backend, process, tenant_bounds, kinds)
        stack.push_async_callback(services.heavy.close)
        marker = MarkerWatch("jobs", backend.jobs, backend.keys, partial(_replace_lost, services))
        with require_redis():
            await marker.check()
            await services.links.share()
        metrics.draining.of().read = lambda: services.draining
        runs = [each.run() for each in (services.hub, services.viewer_heartbeat, services.watch, memory, marker)]
        if settings.metrics:
            runs.append(publisher.run())
        tasks = services.tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield services
            await services.viewer_heartbeat.report()
            if settings.metrics:
                await publisher.last_words()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _check_tasks_kind(settings: Settings, kinds: AdmittedKinds) -> None:
    if settings.tasks_kind is not None and settings.tasks_kind not in kinds:
        raise StartupError(f"TAILRACE_TASKS_KIND must be one of: {kinds.names}.")


async def _replace_lost(services: Services) -> None:
    """Restore this gateway's data in a Redis that has lost it."""
    services.hub.lose()
    await services.links.share()


async def _connect(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> _Backend:
    """Open and check the Redis clients, which `stack` closes."""
    if settings.redis_url is None:
        raise StartupError("TAILRACE_REDIS_URL is not set; `tailrace up` brings its own, a gateway does not.")
    queue_url = settings.redis_url.get_secret_value()
    stream_url = (settings.stream_redis_url or settings.redis_url).get_secret_value()
    queue = open_client(queue_url, connections=REDIS_CONNECTIONS, latency=metrics.command.of("queue"))
    stack.push_async_callback(queue.aclose)
    jobs_client = open_client(stream_url, connections=REDIS_CONNECTIONS, latency=metrics.command.of("jobs"))
    stack.push_async_callback(jobs_client.aclose)
    feed = open_client(stream_url, connections=1, command_timeout_s=None)
    stack.push_async_callback(feed.aclose)
    backend = _Backend(queue, jobs_client, feed, Keys(settings.key_prefix, settings.arq_prefixed))
    for client in backend.servers.values():
        await check_server(client, backend.keys)
        await warm(client)
    await check_arq_keys(queue, backend.keys)
    return backend


def _build_services(
    settings: Settings, backend: _Backend, process: _Process, tenant_bounds: TenantBounds, kinds: AdmittedKinds
) -> Services:
    """Build the parts that the handlers use."""
    clock, metrics, publisher = process.clock, process.metrics, process.publisher
    job_client, keys = backend.jobs, backend.keys
    store = Store(
        job_client,
        keys,
        retention_s=settings.retention_s,
        failed_retention_s=settings.dead_letter_retention_s,
        metrics=metrics,
    )
    queue = Queue(backend.queue, keys, metrics)
    catalog, viewers = ModelCatalog(backend.queue, keys), Viewers(job_client, keys)
    hub, letters = _build_hub(settings, backend, clock, metrics), _build_dead_letters(settings, backend, metrics)
    keyring, limits = Keyring(settings.api_keys), _limits(settings, tenant_bounds)
    # If the settings name the models, the limits know them without the catalog.
    strict = StrictModels(catalog, clock) if settings.strict_models and not settings.served_models else None
    return Services(
        settings=settings,
        clock=clock,
        store=store,
        results=Results(job_client, keys),
        conversations=Conversations(job_client, keys, retention_s=settings.retention_s),
        prompts=Prompts(job_client, keys),
        queue=queue,
        dead_letters=letters,
        hub=hub,
        kinds=kinds,
        admission=Admission(store, queue, clock, limits, publisher.process, strict, process.memory, kinds),
        viewer_heartbeat=ViewerHeartbeat(hub, viewers, queue, publisher.process, metrics=metrics),
        open_streams=OpenStreams(settings.tenant_bounds, metrics),
        viewers=viewers,
        keyring=keyring,
        links=_build_links(settings, backend, clock, keyring),
        catalog=catalog,
        watch=ServerWatch(backend.servers, keys, clock, metrics),
        metrics=metrics,
        scrape=Scrape(publisher, process.fleet, queue, letters, limits.lanes),
        heavy=HeavyWork(metrics),
    )


def _build_hub(settings: Settings, backend: _Backend, clock: Clock, metrics: Metrics) -> Hub:
    return Hub(
        backend.feed,
        ReplayLog(backend.jobs, backend.keys),
        backend.keys,
        clock,
        reader_bytes=settings.reader_bytes,
        heartbeat_s=settings.heartbeat_s,
        tail_check_s=settings.tail_check_s,
        redis_patience_s=settings.redis_patience_s,
        send_timeout_s=settings.send_timeout_s,
        metrics=metrics,
    )


def _build_dead_letters(settings: Settings, backend: _Backend, metrics: Metrics) -> DeadLetters:
    return DeadLetters(
        backend.jobs,
        backend.keys,
        retention_s=settings.retention_s,
        dead_letter_retention_s=settings.dead_letter_retention_s,
        most=settings.max_dead_letters,
        most_of_tenant=settings.tenant_bounds.dead_letters,
        metrics=metrics,
    )


def _build_links(settings: Settings, backend: _Backend, clock: Clock, keyring: Keyring) -> SharedLinks:
    # A link is valid while its job can be read.
    kept_s = LONGEST_TIMEOUT_S + max(settings.retention_s, settings.dead_letter_retention_s)
    secrets = None if settings.secret else LinkSecrets(backend.jobs, backend.keys, kept_s=kept_s)
    secret = settings.secret.get_secret_value() if settings.secret else ""
    return SharedLinks(secrets, clock, keyring.generations, secret, prefix=settings.path_prefix or "")


def _limits(settings: Settings, bounds: TenantBounds) -> Limits:
    """Build admission's limits from the settings."""
    return Limits(
        timeout_s=settings.timeout_s,
        max_timeout_s=settings.max_timeout_s,
        retention_s=settings.retention_s,
        unstored_s=settings.unstored_retention_s,
        listed_s=max(settings.retention_s, settings.dead_letter_retention_s),
        max_depth=settings.max_depth,
        grace_s=settings.disconnect_grace_s,
        models=settings.served_models,
        lanes=[lane.name for lane in parse_lanes(settings.lanes)],
        bounds=bounds,
    )


FACES: Final = (
    jobs.face,
    results.face,
    tasks.face,
    dead_letters.face,
    chat_completions.face,
    completions.face,
    embeddings.face,
    responses.face,
    ai_sdk.face,
    models.face,
    ops.face,
    page.face,
)
"""The APIs of a gateway, each with its addresses and its way to write errors."""

ROUTES: Final[tuple[BaseRoute, ...]] = tuple(route for face in FACES for route in face.routes)
"""All addresses of a gateway."""


def build_app(services: Services) -> ASGIApp:
    """Make the ASGI application of these parts."""
    errors = ErrorResponses(FACES)
    app = Starlette(routes=ROUTES, exception_handlers=errors.handlers())
    app.router.redirect_slashes = False
    app.state.services = services
    checked = HeadCheck(app, services.settings.hosts, errors.render)
    logged = RequestLog(checked, services.clock, services.metrics)
    origins, prefix = services.settings.cors_origins, services.settings.path_prefix
    answered: ASGIApp = Cors(logged, origins) if origins else logged
    return PathPrefix(answered, prefix) if prefix else answered
