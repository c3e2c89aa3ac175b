"""Compose the gateway: its parts, its routes and its layers.

`running` builds and connects the parts, `build_app` makes the ASGI application of them. Not here: the process, its
socket and the drain (server.py).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.admission.admission import Admission
from gateway.admission.shared_links import SharedLinks
from gateway.admission.strict_models import StrictModels
from gateway.admission.workflow_admission import WorkflowAdmission
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
    webhooks,
    workflow_events,
    workflows,
)
from gateway.api.services import Services
from gateway.http.cors import Cors
from gateway.http.errors import ErrorResponses
from gateway.http.head_check import HeadCheck
from gateway.http.heavy_work import HeavyWork
from gateway.http.middleware import RequestLog
from gateway.http.path_prefix import PathPrefix
from gateway.http.scrape import Scrape
from gateway.model.auth import Keyring
from gateway.specs.kinds import ADMITTED_KINDS, AdmittedKinds
from gateway.specs.limits import Limits
from gateway.specs.own_kinds import admission_of
from gateway.streams.hub import Hub
from gateway.streams.open_streams import OpenStreams
from gateway.streams.viewer_heartbeat import ViewerHeartbeat
from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.model.jobs import LONGEST_TIMEOUT_S
from shared.model.lanes import parse_lanes
from shared.model.metrics import Metrics
from shared.model.own_kinds import OwnKind
from shared.model.tenant_bounds import TenantBounds
from shared.process.clock import Clock, SystemClock
from shared.process.kind_modules import load_kinds
from shared.store.backend import Backend, open_backend
from shared.store.client import (
    require_redis,
)
from shared.store.conversations import Conversations
from shared.store.fleet_metrics import Publisher
from shared.store.link_secrets import LinkSecrets
from shared.store.memory_watch import MemoryWatch, memory_of
from shared.store.prompts import Prompts
from shared.store.server_marker import MarkerWatch
from shared.store.server_watch import ServerWatch
from shared.store.viewers import Viewers
from shared.store.webhook_secrets import WebhookSecrets
from shared.store.workflows import Workflows


@dataclass(frozen=True, slots=True)
class _Process:
    """Hold the clock of this process, and its telemetry."""

    clock: Clock
    metrics: Metrics
    memory: MemoryWatch
    publisher: Publisher


@asynccontextmanager
async def running(settings: Settings, kinds: AdmittedKinds = ADMITTED_KINDS) -> AsyncIterator[Services]:
    """Connect the parts of one gateway, which admits these kinds and those that the settings name; run their tasks.

    Raises:
        StartupError: Redis is unfit, or a setting names an unknown or unfit kind.
        RedisUnavailable: Redis does not answer.
    """
    own = load_kinds(settings.kinds)
    kinds = kinds.adding(*map(admission_of, own))
    tasks_kind = _tasks_kind(settings, kinds, own)
    metrics, clock = Metrics(silent=not settings.metrics), SystemClock()
    async with open_backend(settings, metrics, "gateway") as backend, AsyncExitStack() as stack:
        memory = MemoryWatch(backend.servers, metrics)
        publisher = Publisher(backend.fleet, metrics, clock, "gateway")
        process = _Process(clock, metrics, memory, publisher)
        tenant_bounds = settings.tenant_bounds.in_memory(await memory_of(backend.clients.jobs))
        services = _build_services(settings, backend, process, tenant_bounds, kinds)
        services.tasks_kind = tasks_kind
        stack.push_async_callback(services.heavy.close)
        marker = MarkerWatch("jobs", backend.clients.jobs, backend.keys, partial(_replace_lost, services))
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


def _tasks_kind(settings: Settings, kinds: AdmittedKinds, own: Sequence[OwnKind]) -> str | None:
    """Return the kind of tasks whose request names none: by the setting, or the only kind that is a function."""
    if settings.tasks_kind is None:
        return own[0].name if len(own) == 1 else None
    if settings.tasks_kind not in kinds:
        raise StartupError(f"TAILRACE_TASKS_KIND must be one of: {kinds.names}.")
    return settings.tasks_kind


async def _replace_lost(services: Services) -> None:
    """Restore this gateway's data in a Redis that has lost it."""
    services.hub.lose()
    await services.links.share()


def _build_services(
    settings: Settings, backend: Backend, process: _Process, tenant_bounds: TenantBounds, kinds: AdmittedKinds
) -> Services:
    """Build the parts that the handlers use."""
    clock, metrics, publisher = process.clock, process.metrics, process.publisher
    store, queue, catalog, letters = backend.store, backend.queue, backend.catalog, backend.dead_letters
    job_client, keys = backend.clients.jobs, backend.keys
    hub, viewers = _build_hub(settings, backend, clock, metrics), Viewers(job_client, keys)
    keyring, limits = Keyring(settings.api_keys), _limits(settings, tenant_bounds)
    # If the settings name the models, the limits know them without the catalog.
    strict = StrictModels(catalog, clock) if settings.strict_models and not settings.served_models else None
    admission = _build_admission(backend, process, limits, strict, kinds)
    stored_workflows = Workflows(job_client, keys, retention_s=limits.listed_s, metrics=metrics)
    return Services(
        settings=settings,
        clock=clock,
        store=store,
        results=backend.results,
        conversations=Conversations(job_client, keys, retention_s=settings.retention_s),
        prompts=Prompts(job_client, keys),
        queue=queue,
        queue_admission=backend.queue_admission,
        tenant_lists=backend.tenant_lists,
        dead_letters=letters,
        hub=hub,
        kinds=kinds,
        admission=admission,
        workflows=stored_workflows,
        workflow_admission=WorkflowAdmission(
            admission, stored_workflows, store, queue, backend.waiting, backend.tenant_lists, limits.bounds
        ),
        viewer_heartbeat=ViewerHeartbeat(hub, viewers, queue, publisher.process, metrics=metrics),
        open_streams=OpenStreams(settings.tenant_bounds, metrics),
        viewers=viewers,
        keyring=keyring,
        links=_build_links(settings, backend, clock, keyring),
        catalog=catalog,
        watch=ServerWatch(backend.servers, keys, clock, metrics),
        metrics=metrics,
        scrape=Scrape(publisher, backend.fleet, queue, letters, limits.lanes),
        heavy=HeavyWork(metrics),
        webhook_secrets=WebhookSecrets(backend.clients.queue, keys),
    )


def _build_admission(
    backend: Backend, process: _Process, limits: Limits, strict: StrictModels | None, kinds: AdmittedKinds
) -> Admission:
    return Admission(
        backend.store,
        backend.queue,
        backend.queue_admission,
        backend.waiting,
        process.clock,
        limits,
        process.publisher.process,
        strict,
        process.memory,
        kinds,
    )


def _build_hub(settings: Settings, backend: Backend, clock: Clock, metrics: Metrics) -> Hub:
    return Hub(
        backend.clients.feed,
        backend.replay_log,
        backend.keys,
        clock,
        reader_bytes=settings.reader_bytes,
        heartbeat_s=settings.heartbeat_s,
        tail_check_s=settings.tail_check_s,
        redis_patience_s=settings.redis_patience_s,
        send_timeout_s=settings.send_timeout_s,
        metrics=metrics,
    )


def _build_links(settings: Settings, backend: Backend, clock: Clock, keyring: Keyring) -> SharedLinks:
    # A link is valid while its job can be read.
    kept_s = LONGEST_TIMEOUT_S + max(settings.retention_s, settings.dead_letter_retention_s)
    secrets = None if settings.secret else LinkSecrets(backend.clients.jobs, backend.keys, kept_s=kept_s)
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
        webhook_targets=settings.webhook_targets,
    )


FACES: Final = (
    jobs.face,
    results.face,
    tasks.face,
    webhooks.face,
    workflows.face,
    workflow_events.face,
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
