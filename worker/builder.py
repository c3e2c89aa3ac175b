"""Build the parts of a worker from its settings and its backend, in the order of their needs.

Not here: running and draining the parts (app.py), and the work of any part.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from shared.config.settings import Settings
from shared.model.lanes import parse_lanes
from shared.model.metrics import Metrics
from shared.model.routes import RouteTable
from shared.process.clock import SystemClock
from shared.store.backend import Backend
from shared.store.breaker_state import BreakerStates
from shared.store.client import Client, require_redis
from shared.store.completions import Completions
from shared.store.live_feed import LiveFeed
from shared.store.permits import ConcurrencyPermits
from shared.store.record_scan import RecordScan
from shared.store.replay_log import ReplayLog
from shared.store.server_marker import MarkerWatch
from shared.store.webhook_deliveries import DeliveryQueue
from shared.store.webhook_secrets import WebhookSecrets
from worker.dispatch.arq_adapter import ArqAdapter
from worker.dispatch.claimed_jobs import ClaimedJobs
from worker.dispatch.control_messages import handle_control_message
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.leases import Leases
from worker.dispatch.reaper import Reaper
from worker.dispatch.reconciler import Reconciler
from worker.dispatch.slots import Slots
from worker.execution.access import TargetAccess
from worker.execution.completion import CompletionStep, CompletionSteps
from worker.execution.executions import ExecutableKinds, ExecutionServices
from worker.execution.job_end import JobEnder
from worker.execution.parent_answers import ParentAnswers
from worker.execution.pump import Pump
from worker.execution.run_services import RunLimits, RunServices
from worker.execution.runs import Runs
from worker.execution.steps import AddDeadLetter, AddWebhookDelivery, LogEnd, RemoveQueueEntry, SettleChildren
from worker.model.breaker import Policy
from worker.model.token_estimate import SavedTokenEstimate
from worker.model_publisher import publish_models
from worker.upstream.breakers import Breakers
from worker.upstream.chain import Routes
from worker.upstream.concurrency import Concurrency
from worker.upstream.model_lists import ModelLists
from worker.upstream.providers.base import Provider
from worker.upstream.selector import ProviderSelector
from worker.webhooks.deliveries import WebhookDeliveries
from worker.webhooks.sender import WebhookSender


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The access to the providers: their routes, breakers and concurrency limits."""

    table: RouteTable
    routes: Routes
    breakers: Breakers
    concurrency: Concurrency


@dataclass(frozen=True, slots=True)
class ServerAge:
    """The time since the younger server started, and the wait until each holder of a job had a lease to renew it."""

    up_s: float
    wait_s: float


class Builder:
    """Builds the parts of one worker from its settings, in the order of their needs."""

    def __init__(
        self, settings: Settings, metrics: Metrics, backend: Backend, extra_steps: Sequence[CompletionStep] = ()
    ) -> None:
        """Create a builder; `extra_steps` are completion steps beside its own."""
        self.settings = settings
        self.metrics = metrics
        self.backend = backend
        self.clock = SystemClock()
        self.token_estimate = SavedTokenEstimate()
        self.deliveries = self._webhook_deliveries()
        steps: tuple[CompletionStep, ...] = (
            AddDeadLetter(backend.dead_letters, metrics),
            AddWebhookDelivery(self.deliveries),
            SettleChildren(backend.waiting),
            *extra_steps,
            LogEnd(),
            RemoveQueueEntry(backend.queue),
        )
        completions = Completions(backend.clients.jobs, backend.keys, settings.lease_s)
        self.completion_steps = CompletionSteps(steps, completions, backend.queue, backend.store)
        self.ender = JobEnder(backend.store, backend.executions, backend.replay_log, self.token_estimate)

    def _webhook_deliveries(self) -> WebhookDeliveries:
        client, keys = self.backend.clients.queue, self.backend.keys
        sender = WebhookSender(self.settings.webhook_targets)
        return WebhookDeliveries(
            DeliveryQueue(client, keys), WebhookSecrets(client, keys), sender, self.clock, self.metrics
        )

    def pump(self, writer: Client) -> Pump:
        """Build the pump, which writes the log on a connection of its own."""
        replay_log = ReplayLog(writer, self.backend.keys)
        return Pump(replay_log, self.clock, max_bytes=self.settings.pump_bytes, metrics=self.metrics)

    async def server_age(self) -> ServerAge:
        """Read the time since the servers started; after a start, holders need a lease's time to renew their claims."""
        with require_redis():
            up_s = min((await self.backend.queue.server()).up_s, (await self.backend.store.server()).up_s)
        return ServerAge(up_s, max(0.0, self.settings.lease_s - up_s))

    async def upstreams(self, providers: Mapping[str, Provider], stack: AsyncExitStack) -> Upstreams:
        """Build the access to the providers, with the breaker states that all workers share."""
        table, jobs, keys = self.settings.route_table(), self.backend.clients.jobs, self.backend.keys
        routes = Routes(table, providers)
        stack.push_async_callback(routes.close)
        breakers = Breakers(BreakerStates(jobs, keys), self.clock, Policy(), self.metrics)
        concurrency = Concurrency(
            ConcurrencyPermits(jobs, keys),
            {name: each.max_concurrency for name, each in table.upstreams.items() if each.max_concurrency},
            worker=uuid.uuid4().hex[:12],
            lease_s=self.settings.lease_s,
            metrics=self.metrics,
        )
        with require_redis():
            await breakers.refresh()
        return Upstreams(table, routes, breakers, concurrency)

    def runs(self, upstreams: Upstreams, kinds: ExecutableKinds, pump: Pump) -> Runs:
        """Build the runs of jobs of these kinds."""
        settings, backend = self.settings, self.backend
        execution_services = ExecutionServices(
            backend.store,
            backend.results,
            backend.checkpoints,
            pump,
            self.metrics,
            max_log_bytes=settings.max_log_bytes,
            max_result_bytes=settings.max_result_bytes,
        )
        services = RunServices(
            store=backend.store,
            replay_log=backend.replay_log,
            queue=backend.queue,
            waiting=backend.waiting,
            parents=ParentAnswers(backend.store, backend.replay_log, backend.results),
            providers=TargetAccess(upstreams.routes, ProviderSelector(upstreams.breakers, upstreams.concurrency)),
            ender=self.ender,
            kinds=kinds,
            executions=backend.executions,
            execution_services=execution_services,
            limits=RunLimits(settings.max_crashes, settings.max_regenerated_tokens),
            lease_s=settings.lease_s,
            metrics=self.metrics,
            token_estimate=self.token_estimate,
        )
        return Runs(services, self.completion_steps)

    def leases(self, runs: Runs) -> Leases:
        """Build the leases of the running jobs."""
        settings, backend = self.settings, self.backend
        return Leases(backend.queue, backend.executions, runs, slots=settings.worker_slots, lease_s=settings.lease_s)

    def dispatcher(self, runs: Runs, leases: Leases, wake_up: Client, age: ServerAge) -> Dispatcher:
        """Build the dispatcher; `wake_up` is its client for calls that block."""
        settings, backend = self.settings, self.backend
        jobs = ClaimedJobs(backend.queue, leases, runs, self.ender, self.completion_steps)
        return Dispatcher(
            backend.queue,
            runs,
            leases,
            Slots(settings.worker_slots, settings.served_lanes),
            ArqAdapter(backend.clients.queue, backend.keys, jobs, slots=settings.worker_slots),
            wake_up_client=wake_up,
            only_own_lanes=bool(settings.worker_lanes),
            lease_s=settings.lease_s,
            wait_s=age.wait_s,
        )

    def reaper(self, serve: Callable[[str], None], age: ServerAge) -> Reaper:
        """Build the reaper; `serve` gets the lane of each job that it sees."""
        owner = f"reaper-{uuid.uuid4().hex[:12]}"
        return Reaper(
            self.backend.store,
            self.backend.queue,
            self.backend.waiting,
            self.completion_steps,
            self.clock,
            lambda job_id, error: self.ender.end(job_id, owner, error),
            serve,
            lanes=tuple(lane.name for lane in parse_lanes(self.settings.lanes)),
            lease_s=self.settings.lease_s,
            wait_s=age.wait_s,
            up_s=age.up_s,
            token_estimate=self.token_estimate,
        )

    def reconciler(self) -> Reconciler:
        """Build the reconciler, which restores jobs that the queue's server has lost."""
        settings, backend = self.settings, self.backend
        record_scan = RecordScan(
            backend.clients.jobs,
            backend.keys,
            backend.store,
            retention_s=settings.retention_s,
            listed_s=max(settings.retention_s, settings.dead_letter_retention_s),
        )
        return Reconciler(
            backend.store,
            backend.queue,
            backend.waiting,
            backend.tenant_lists,
            record_scan,
            self.completion_steps,
            lease_s=settings.lease_s,
            bounds=settings.tenant_bounds,
        )

    def feed(self, runs: Runs, leases: Leases, concurrency: Concurrency, reaper: Reaper) -> LiveFeed:
        """Build the reader of the control channel."""
        feed = LiveFeed(
            self.backend.clients.feed,
            self.clock,
            on_message=lambda _, raw: handle_control_message(raw, runs, concurrency, reaper),
            on_confirmed=lambda _: leases.renew_soon(),
            connects=self.metrics.feed_connects.of(),
        )
        feed.subscribe(self.backend.keys.control)
        return feed

    def model_publishing(self, table: RouteTable, providers: Mapping[str, Provider]) -> list[Coroutine[Any, Any, None]]:
        """Return the loops that publish the models, and publish them again after the queue's server lost its data."""
        lost = asyncio.Event()

        async def on_queue_loss() -> None:
            lost.set()

        backend = self.backend
        return [
            MarkerWatch("queue", backend.clients.queue, backend.keys, on_queue_loss).run(),
            publish_models(backend.catalog, ModelLists(table, providers), lost),
        ]
