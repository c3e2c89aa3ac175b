"""The worker process: reads the settings, opens the connections, puts the parts together and runs them.

`python -m worker`, or `tailrace worker`. Below: everything in worker/. Not here: what any part does.
"""

import argparse
import asyncio
import gc
import signal
import sys
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog
import uvloop

from shared.config.settings import Settings, environment_notes, load_settings
from shared.config.upstream_settings import SCRIPTED_URL
from shared.model.errors import RedisUnavailable, StartupError, TailraceError
from shared.model.lanes import parse_lanes
from shared.model.routes import Upstream
from shared.process.clock import SystemClock
from shared.process.ready import tell_ready
from shared.store.breaker_state import BreakerStates
from shared.store.catalog import Catalogue
from shared.store.client import REDIS_FAULTS, Client, must_answer, name_of, open_client, warm
from shared.store.control import CancelJob, PermitReleased, parse_message
from shared.store.dead_letters import DeadLetters
from shared.store.fleet_metrics import Fleet, Publisher
from shared.store.job_walk import JobWalk
from shared.store.jobs import Store
from shared.store.keys import Keys
from shared.store.live_feed import LiveFeed
from shared.store.permits import ConcurrencyPermits
from shared.store.queue import Queue
from shared.store.replay_log import ReplayLog
from shared.store.results import Results
from shared.store.server_check import check_arq_keys, check_server
from shared.store.server_marker import MarkerWatch
from shared.store.server_watch import ServerWatch
from shared.telemetry.logs import configure_logs, log_notes
from shared.telemetry.metrics import Buckets, Metrics
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.reaper import Reaper
from worker.dispatch.reconciler import Recovery
from worker.execution.completion import Epilogue
from worker.execution.pump import Pump
from worker.execution.runs import Attempts, Limits
from worker.model.breaker import Policy
from worker.model.token_estimate import Savings
from worker.upstream.breakers import Breakers
from worker.upstream.chain import Routes
from worker.upstream.concurrency import Concurrency
from worker.upstream.model_lists import ModelLists
from worker.upstream.providers.base import Provider
from worker.upstream.providers.openai_compatible import OpenAICompatible
from worker.upstream.providers.scripted import Scripted
from worker.upstream.selector import Gate

log = structlog.get_logger()

_CATALOGUE_S, _CATALOGUE_RETRY_S = 30.0, 3.0
# Tokens a second of the scripted provider: a pace that a reader can follow.
_SCRIPTED_RATE = 30.0
# Without Redis nothing can be handed back; then the leases see to it. The second one is for whoever is in a hurry.
_HAND_BACK_S, _HURRY_S = 5.0, 1.0


def make_providers(settings: Settings) -> dict[str, Provider]:
    """The upstreams of the settings, by their names.

    Raises:
        StartupError: none is configured, or an address or a key can't be one.
    """
    upstreams = settings.route_table().upstreams
    if not upstreams:
        raise StartupError(
            "No upstream is configured: set TAILRACE_UPSTREAM_URL (or OPENAI_BASE_URL) to an OpenAI-compatible one."
        )
    return {name: _provider(upstream) for name, upstream in upstreams.items()}


def _provider(upstream: Upstream) -> Provider:
    if upstream.base_url == SCRIPTED_URL:
        return Scripted(upstream.name, rate=_SCRIPTED_RATE)
    key = None if upstream.api_key is None else upstream.api_key.get_secret_value()
    return OpenAICompatible(upstream.name, upstream.base_url, key, upstream.rules)


async def run_worker(
    settings: Settings,
    providers: Mapping[str, Provider],
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    now: asyncio.Event,
) -> None:
    """Run until `stop` is set, then drain; `now` cuts the draining short. The providers are closed at the end.

    Raises:
        StartupError: Redis is unfit.
        RedisUnavailable: Redis does not answer.
    """
    if settings.redis_url is None:
        raise StartupError("TAILRACE_REDIS_URL is not set; `tailrace up` brings its own, a worker does not.")
    async with AsyncExitStack() as stack:

        def client(url: str, **options: float | Buckets | None) -> Client:
            opened = open_client(url, **options)  # type: ignore[arg-type]
            stack.push_async_callback(opened.aclose)
            return opened

        queue_url = settings.redis_url.get_secret_value()
        stream_url = (settings.stream_redis_url or settings.redis_url).get_secret_value()
        metrics = Metrics(silent=not settings.metrics)
        queue_client = client(queue_url, latency=metrics.command.of("queue"))
        job_client = client(stream_url, latency=metrics.command.of("jobs"))
        writer = client(stream_url, connections=1)
        bell_client = client(queue_url, connections=1)
        feed_client = client(stream_url, connections=1, command_timeout_s=None)
        clock, keys = SystemClock(), Keys(settings.key_prefix, settings.arq_prefixed)
        servers = {"queue": queue_client, "jobs": job_client}
        for each in servers.values():
            await check_server(each, keys)
            await warm(each)
        await check_arq_keys(queue_client, keys)
        for each in (writer, bell_client):
            await warm(each)

        table = settings.route_table()
        routes = Routes(table, providers)
        stack.push_async_callback(routes.close)
        store = Store(
            job_client,
            keys,
            retention_s=settings.retention_s,
            failed_retention_s=settings.dead_letter_retention_s,
            metrics=metrics,
        )
        queue = Queue(queue_client, keys, metrics)
        dead_letters = DeadLetters(
            job_client,
            keys,
            retention_s=settings.retention_s,
            dead_letter_retention_s=settings.dead_letter_retention_s,
            most=settings.max_dead_letters,
            most_of_tenant=settings.tenant_bounds.dead_letters,
            metrics=metrics,
        )
        epilogue = Epilogue(queue, dead_letters, store, metrics)
        replay_log = ReplayLog(job_client, keys)
        savings = Savings()
        pump = Pump(ReplayLog(writer, keys), clock, max_bytes=settings.pump_bytes, metrics=metrics)
        breakers = Breakers(BreakerStates(job_client, keys), clock, Policy(), metrics)
        limits = {name: each.max_concurrency for name, each in table.upstreams.items() if each.max_concurrency}
        worker_name = uuid.uuid4().hex[:12]
        concurrency = Concurrency(
            ConcurrencyPermits(job_client, keys), limits, worker=worker_name, lease_s=settings.lease_s, metrics=metrics
        )
        attempts = Attempts(
            store,
            replay_log,
            Results(job_client, keys),
            queue,
            epilogue,
            pump,
            routes,
            Gate(breakers, concurrency),
            Limits(
                settings.max_crashes, settings.max_regenerated_tokens, settings.max_log_bytes, settings.max_result_bytes
            ),
            lease_s=settings.lease_s,
            metrics=metrics,
            savings=savings,
        )
        with must_answer():
            await breakers.look()
        # A server that has just started: whoever held a job has had no lease yet to say so.
        with must_answer():
            up_s = min((await queue.server()).up_s, (await store.server()).up_s)
        wait_s = max(0.0, settings.lease_s - up_s)
        lanes = parse_lanes(settings.lanes)
        dispatcher = Dispatcher(
            queue,
            store,
            attempts,
            epilogue,
            keys,
            client=queue_client,
            bell_client=bell_client,
            lanes=lanes,
            slots=settings.worker_slots,
            lease_s=settings.lease_s,
            wait_s=wait_s,
        )
        reaper_owner = f"reaper-{uuid.uuid4().hex[:12]}"
        reaper = Reaper(
            store,
            queue,
            epilogue,
            clock,
            lambda job_id, error: attempts.end(job_id, reaper_owner, error),
            dispatcher.serve,
            lanes=tuple(lane.name for lane in lanes),
            lease_s=settings.lease_s,
            wait_s=wait_s,
            up_s=up_s,
            savings=savings,
        )
        feed = LiveFeed(
            feed_client,
            clock,
            on_message=lambda _, raw: handle_control_message(raw, dispatcher, concurrency),
            on_confirmed=lambda _: dispatcher.beat_soon(),
            connects=metrics.feed_connects.of(),
        )
        feed.subscribe(keys.control)
        metrics.slots.of().read = lambda: settings.worker_slots
        metrics.slots_in_use.of().read = lambda: dispatcher.busy
        metrics.draining.of().read = stop.is_set
        catalogue_lost = asyncio.Event()

        async def on_queue_loss() -> None:
            catalogue_lost.set()

        walk = JobWalk(
            job_client,
            keys,
            store,
            retention_s=settings.retention_s,
            listed_s=max(settings.retention_s, settings.dead_letter_retention_s),
        )
        bounds = settings.tenant_bounds
        recovery = Recovery(store, queue, walk, epilogue, lease_s=settings.lease_s, bounds=bounds)
        marker = MarkerWatch("queue", queue_client, keys, on_queue_loss)
        publisher = Publisher(Fleet(queue_client, keys), metrics, clock, "worker")

        async with asyncio.TaskGroup() as group:
            side = [
                group.create_task(part)
                for part in (
                    pump.run(),
                    feed.run(),
                    dispatcher.beat(),
                    breakers.run(),
                    concurrency.run(),
                    reaper.run(),
                    recovery.run(),
                    ServerWatch(servers, keys, clock, metrics).run(),
                    marker.run(),
                    publish_models(Catalogue(queue_client, keys), ModelLists(table, providers), catalogue_lost),
                    *([publisher.run()] if settings.metrics else []),
                )
            ]
            taking = group.create_task(dispatcher.run())
            gc.collect()
            gc.freeze()
            ready()
            await stop.wait()
            log.info("worker.draining", jobs=dispatcher.busy, drain_s=settings.drain_s)
            taking.cancel()
            # A take that is under way ends first: what it claims is drained with the rest.
            await unless(now, asyncio.wait([taking], timeout=_HAND_BACK_S))
            await drain(dispatcher, settings.drain_s, now)
            for task in (*side, taking):
                task.cancel()
        if settings.metrics:
            await publisher.last_words()
    log.info("worker.stopped")


def handle_control_message(raw: bytes, dispatcher: Dispatcher, concurrency: Concurrency) -> None:
    """React to a message of the control channel."""
    match parse_message(raw):
        case CancelJob(job_id):
            dispatcher.cancel(job_id)
        case PermitReleased(provider):
            concurrency.freed(provider)
        case None:
            log.debug("worker.unknown_control_message", bytes=len(raw))


async def drain(dispatcher: Dispatcher, drain_s: float, now: asyncio.Event) -> None:
    """Let the jobs end, or hand them back; `now` means at once."""
    await unless(now, dispatcher.drain(drain_s))
    await dispatcher.drain(0)
    await unless(now, dispatcher.stopped(_HAND_BACK_S))
    await dispatcher.stopped(_HURRY_S)


async def unless(now: asyncio.Event, patience: Coroutine[Any, Any, object]) -> None:
    """Have this patience until `now` is set."""
    patient, impatient = asyncio.create_task(patience), asyncio.create_task(now.wait())
    await asyncio.wait([patient, impatient], return_when=asyncio.FIRST_COMPLETED)
    for task in (patient, impatient):
        task.cancel()


async def publish_models(catalogue: Catalogue, lists: ModelLists, lost: asyncio.Event) -> None:
    """Publish the models until cancelled, at once if they were `lost`.

    A worker that knows none leaves the catalogue to those that do.
    """
    retry_s = _CATALOGUE_RETRY_S
    while True:
        listing, published = await lists.read(), False
        try:
            if listing is not None:
                await catalogue.publish(listing)
                published = listing.complete
        except REDIS_FAULTS as error:
            log.warning("worker.models_not_told", error=name_of(error))
        lost.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATALOGUE_S if published else retry_s):
                await lost.wait()
        # An upstream that never lists its models is not asked every few seconds.
        retry_s = _CATALOGUE_RETRY_S if published else min(2 * retry_s, _CATALOGUE_S)


async def main(settings: Settings, ready_fd: int | None) -> int:
    """Run with signal handling; the process's exit code."""
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)

    def ready() -> None:
        log.info("worker.ready", slots=settings.worker_slots)
        tell_ready(ready_fd)

    try:
        await run_worker(settings, make_providers(settings), ready=ready, stop=stop, now=now)
    except (StartupError, RedisUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def cli() -> int:
    """`python -m worker`."""
    parser = argparse.ArgumentParser(prog="tailrace worker", description="Run one worker process.")
    parser.add_argument("--ready-fd", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        settings = load_settings()
    except TailraceError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(settings.log_level, settings.log_format)
    log_notes(environment_notes())
    return uvloop.run(main(settings, arguments.ready_fd))


if __name__ == "__main__":
    sys.exit(cli())
