"""Test the dispatcher on a real server, with a stand-in for arq: slots, wake-ups, drains and dropped claims."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.exceptions import ResponseError

from shared.model.lanes import Lane
from shared.store.client import Client
from shared.store.queue import Queue
from shared.store.wire.answers import Taken
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, captured_logs, make_spec
from worker.dispatch import dispatcher as dispatcher_module
from worker.dispatch.arq_adapter import ArqAdapter
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.leases import Leases
from worker.dispatch.slots import Slots
from worker.execution.runs import Runs

LANE = "default"
LEASE_S = 10.0


class Held:
    """Stand in for the arq adapter and the runs: each job runs until the test ends it, or all are drained."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.ends: dict[str, asyncio.Event] = {}
        self.error: Exception | None = None
        self.drains = 0

    async def run(self, taken: Taken) -> None:
        """Run a job until its event is set."""
        assert taken.lane == LANE
        end = self.ends[taken.job_id] = asyncio.Event()
        self.begun.put_nowait(taken.job_id)
        if self.error is not None:
            raise self.error
        await end.wait()

    def drain(self) -> None:
        """End all jobs."""
        self.drains += 1
        for end in self.ends.values():
            end.set()

    async def next(self) -> str:
        """Wait for the next job that begins."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.begun.get()


@pytest.fixture
def held() -> Held:
    """Return the stand-in."""
    return Held()


@asynccontextmanager
async def dispatching(
    core: Core, held: Held, *, slots: int = 2, cap: int | None = None, only_own_lanes: bool = False
) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher; jobs that remain at the end are dropped."""
    leases = Leases(core.queue, core.executions, cast(Runs, held), slots=slots, lease_s=LEASE_S)
    dispatcher = Dispatcher(
        core.queue,
        cast(Runs, held),
        leases,
        Slots(slots, [Lane(LANE, cap=cap), Lane("other")]),
        cast(ArqAdapter, held),
        wake_up_client=core.client,
        only_own_lanes=only_own_lanes,
        lease_s=LEASE_S,
    )
    taking = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        taking.cancel()
        await asyncio.wait([taking])
        await dispatcher.stopped(0)


async def due(core: Core, lane: str = LANE) -> str:
    """Add a job that is due."""
    spec = make_spec(lane=lane)
    await core.queue_admission.admit(spec, max_depth=10, retention_s=RETENTION_S)
    await core.queue_admission.release(spec.id, lane)
    return spec.id


async def test_jobs_are_taken_in_order_while_a_slot_is_free(core: Core, held: Held) -> None:
    jobs = [await due(core) for _ in range(3)]
    async with dispatching(core, held) as dispatcher:
        assert [await held.next(), await held.next()] == jobs[:2]
        assert dispatcher.busy == 2
        assert held.begun.empty()

        held.ends[jobs[0]].set()

        assert await held.next() == jobs[2]


async def test_a_job_that_arrives_later_wakes_the_dispatcher(core: Core, held: Held) -> None:
    async with dispatching(core, held):
        first = await due(core)
        assert await held.next() == first
        second = await due(core)
        assert await held.next() == second


async def test_a_lane_below_its_cap_again_is_asked_at_once(
    core: Core, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "_SWEEP_S", 60.0)
    waiting, wait_for_wake_up = asyncio.Event(), Queue.wait_for_wake_up

    async def watched(queue: Queue, client: Client, lanes: Sequence[str], timeout_s: float) -> None:
        if LANE not in lanes:
            waiting.set()
        await wait_for_wake_up(queue, client, lanes, timeout_s)

    monkeypatch.setattr(Queue, "wait_for_wake_up", watched)
    first, second = await due(core), await due(core)
    async with dispatching(core, held, slots=4, cap=1):
        assert await held.next() == first
        async with asyncio.timeout(TIMEOUT_S):
            await waiting.wait()
        held.ends[first].set()
        assert await held.next() == second


async def test_a_job_that_redis_kept_from_starting_frees_its_slot(core: Core, held: Held) -> None:
    held.error = ResponseError("ERR value is not an integer")
    with captured_logs() as logs:
        async with dispatching(core, held, slots=1) as dispatcher:
            await due(core)
            await held.next()
            await logs.wait_for("dispatcher.not_started")
            held.error = None
            second = await due(core)
            assert await held.next() == second
            assert dispatcher.busy == 1


async def test_a_defect_in_a_jobs_task_is_logged_and_frees_its_slot(core: Core, held: Held) -> None:
    held.error = ZeroDivisionError()
    with captured_logs() as logs:
        async with dispatching(core, held, slots=1) as dispatcher:
            job_id = await due(core)
            await logs.wait_for("dispatcher.job_task_failed")
            assert dispatcher.busy == 0

    assert [event["job"] for event in logs.named("dispatcher.job_task_failed")] == [job_id]


async def test_a_cancelled_dispatcher_starts_the_job_that_it_has_just_claimed(
    core: Core, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await due(core)
    taking, go_on, take = asyncio.Event(), asyncio.Event(), Queue.take

    async def slow_take(*args: object, **options: object) -> object:
        found = await take(*args, **options)  # type: ignore[arg-type]
        taking.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(Queue, "take", slow_take)
    async with dispatching(core, held):
        async with asyncio.timeout(TIMEOUT_S):
            await taking.wait()
        asyncio.get_running_loop().call_soon(go_on.set)
        # Leaving the block cancels `run` while the claim is in progress.
    assert await held.next() == job_id


async def test_a_drain_hands_jobs_back_only_after_their_time(core: Core, held: Held) -> None:
    async with dispatching(core, held) as dispatcher:
        await dispatcher.drain(0)
        assert held.drains == 0

        await due(core)
        await held.next()
        await dispatcher.drain(0)

        assert held.drains == 1
        async with asyncio.timeout(TIMEOUT_S):
            await dispatcher.stopped(TIMEOUT_S)
        assert dispatcher.busy == 0


async def test_jobs_that_do_not_stop_are_dropped(core: Core, held: Held) -> None:
    with captured_logs() as logs:
        async with dispatching(core, held) as dispatcher:
            await due(core)
            await held.next()
            await dispatcher.stopped(0)
            assert dispatcher.busy == 0

    assert [event["jobs"] for event in logs.named("dispatcher.dropped")] == [1]


async def test_a_worker_with_lanes_of_its_own_serves_no_other_one_that_it_finds(core: Core, held: Held) -> None:
    with captured_logs() as logs:
        async with dispatching(core, held, only_own_lanes=True) as dispatcher:
            dispatcher.serve("old")
            await due(core, "old")
            served = await due(core)
            assert await held.next() == served
            # What was ready before this one would have been taken by now.
            later = await due(core)
            assert await held.next() == later

    assert logs.named("dispatcher.lane_not_configured") == logs.named("dispatcher.job_task_failed") == []


async def test_a_lane_that_is_not_configured_is_served_and_logged_once(core: Core, held: Held) -> None:
    with captured_logs() as logs:
        async with dispatching(core, held) as dispatcher:
            dispatcher.serve("old")
            dispatcher.serve("old")
            dispatcher.serve(LANE)

    assert [event["lane"] for event in logs.named("dispatcher.lane_not_configured")] == ["old"]
