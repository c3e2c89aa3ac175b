"""The composition root of a worker: open the connections, run the parts, and drain them.

Not here: signals and the command line (__main__.py), and the construction of the parts (builder.py).
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from shared.config.settings import Settings
from shared.model.metrics import Metrics
from shared.process.kind_modules import load_kinds
from shared.store.backend import open_backend, open_connection
from shared.store.fleet_metrics import Publisher
from shared.store.server_watch import ServerWatch
from worker.builder import Builder
from worker.dispatch.dispatcher import Dispatcher
from worker.execution.completion import CompletionStep
from worker.execution.executions import EXECUTABLE_KINDS, ExecutableKinds, execution_of
from worker.upstream.providers.base import Provider

log = structlog.get_logger()

# Without Redis no job can be handed back, and the leases end instead. The second one applies after a second signal.
_HAND_BACK_S, _HURRY_S = 5.0, 1.0


async def run_worker(
    settings: Settings,
    providers: Mapping[str, Provider],
    kinds: ExecutableKinds = EXECUTABLE_KINDS,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    now: asyncio.Event,
    steps: Sequence[CompletionStep] = (),
) -> None:
    """Run jobs of these kinds until `stop` is set, then drain; `now` cuts the draining short.

    The kinds of the modules that the settings name are added. The providers are closed at the end. `steps` are
    completion steps that run beside its own, after each job's end.

    Raises:
        StartupError: Redis is unfit, or a kind of a user's module is.
        RedisUnavailable: Redis does not answer.
    """
    own = [execution_of(each) for each in load_kinds(settings.kinds)]
    all_kinds = kinds.adding(*own)
    async with AsyncExitStack() as stack:
        metrics = Metrics(silent=not settings.metrics)
        backend = await stack.enter_async_context(open_backend(settings, metrics, "worker"))
        writer = await stack.enter_async_context(open_connection(settings, "jobs"))
        wake_up = await stack.enter_async_context(open_connection(settings, "queue"))
        build = Builder(settings, metrics, backend, steps)
        upstreams = await build.upstreams(providers, stack)
        age = await build.server_age()
        pump = build.pump(writer)
        runs = build.runs(upstreams, all_kinds, pump)
        leases = build.leases(runs)
        dispatcher = build.dispatcher(runs, leases, wake_up, age)
        reaper = build.reaper(dispatcher.serve, age)
        _observe(metrics, settings, dispatcher, stop)
        publisher = Publisher(backend.fleet, metrics, build.clock, "worker")
        loops = [
            pump.run(),
            build.feed(runs, leases, upstreams.concurrency, reaper).run(),
            leases.run(),
            upstreams.breakers.run(),
            upstreams.concurrency.run(),
            reaper.run(),
            build.reconciler().run(),
            build.deliveries.run(),
            ServerWatch(backend.servers, backend.keys, build.clock, metrics).run(),
            *build.model_publishing(upstreams.table, providers),
            *([publisher.run()] if settings.metrics else []),
        ]
        await _supervise(loops, dispatcher, settings.drain_s, ready=ready, stop=stop, now=now)
        if settings.metrics:
            await publisher.last_words()
    log.info("worker.stopped")


def _observe(metrics: Metrics, settings: Settings, dispatcher: Dispatcher, stop: asyncio.Event) -> None:
    metrics.slots.of().read = lambda: settings.worker_slots
    metrics.slots_in_use.of().read = lambda: dispatcher.busy
    metrics.draining.of().read = stop.is_set


async def _supervise(
    loops: list[Coroutine[Any, Any, None]],
    dispatcher: Dispatcher,
    drain_s: float,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    now: asyncio.Event,
) -> None:
    """Run the loops and take jobs until `stop` is set, then drain."""
    async with asyncio.TaskGroup() as group:
        side = [group.create_task(loop) for loop in loops]
        taking = group.create_task(dispatcher.run())
        gc.collect()
        gc.freeze()
        ready()
        await stop.wait()
        log.info("worker.draining", jobs=dispatcher.busy, drain_s=drain_s)
        taking.cancel()
        # Wait for a claim that is in progress: its job is drained with the others.
        await run_until(now, asyncio.wait([taking], timeout=_HAND_BACK_S))
        await drain(dispatcher, drain_s, now)
        for task in (*side, taking):
            task.cancel()


async def drain(dispatcher: Dispatcher, drain_s: float, now: asyncio.Event) -> None:
    """Wait until the jobs have ended, or hand them back; `now` means at once."""
    await run_until(now, dispatcher.drain(drain_s))
    await dispatcher.drain(0)
    await run_until(now, dispatcher.stopped(_HAND_BACK_S))
    await dispatcher.stopped(_HURRY_S)


async def run_until(now: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    """Run this work to its end, or until `now` is set."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(now.wait())
    await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in (working, waiting):
        task.cancel()
