"""Test how many calls all workers together make to a provider."""

import asyncio

from shared.model.metrics import Metrics
from shared.store.permits import ConcurrencyPermits, PermitHolder
from shared.store.wire.control import PermitReleased, parse_message
from tests.support.core import TIMEOUT_S, Core
from worker.upstream.concurrency import Concurrency

LIMITS = {"p": 2}


def worker(core: Core, name: str, lease_s: float = 10.0, metrics: Metrics | None = None) -> Concurrency:
    """Build the concurrency of one more worker."""
    return Concurrency(
        ConcurrencyPermits(core.client, core.keys), LIMITS, worker=name, lease_s=lease_s, metrics=metrics
    )


async def test_two_workers_share_the_places_of_a_provider(core: Core) -> None:
    one, other = worker(core, "w1"), worker(core, "w2")

    assert await one.acquire("p", "a", 0)
    assert await other.acquire("p", "b", 0)
    assert not await one.acquire("p", "c", 0)
    assert not await other.acquire("p", "d", 0)


async def test_the_earliest_waiter_gets_the_next_permit(core: Core) -> None:
    one, other = worker(core, "w1"), worker(core, "w2")
    for job in ("a", "b", "early", "late"):
        await one.acquire("p", job, 0.001)
    await one.release("p", "a")

    assert not await other.acquire("p", "late", 0)
    assert await other.acquire("p", "early", 0)


async def test_a_job_that_does_not_wait_keeps_no_position(core: Core) -> None:
    one, other = worker(core, "w1"), worker(core, "w2")
    for job in ("a", "b", "went elsewhere", "so did I"):
        await one.acquire("p", job, 0)
    await one.release("p", "a")

    assert await other.acquire("p", "comes later", 0)


async def test_a_released_permit_is_announced_to_the_waiters(core: Core) -> None:
    one, other = worker(core, "w1"), worker(core, "w2")
    for job in ("a", "b"):
        await one.acquire("p", job, 0)
    async with core.listening(core.keys.control) as listener:
        assert not await other.acquire("p", "c", 0.001)
        waiting = asyncio.create_task(other.acquire("p", "c", TIMEOUT_S))
        await one.release("p", "b")
        (order,) = await listener.received()

    assert parse_message(order) == PermitReleased("p")
    other.freed("p")
    assert await waiting


async def test_a_message_that_was_lost_costs_a_moment(core: Core) -> None:
    one, other = worker(core, "w1"), worker(core, "w2")
    for job in ("a", "b"):
        await one.acquire("p", job, 0)
    waiting = asyncio.create_task(other.acquire("p", "c", TIMEOUT_S))
    await one.release("p", "b")

    assert await waiting


async def test_a_wait_that_times_out_returns_false(core: Core) -> None:
    one = worker(core, "w1")
    for job in ("a", "b"):
        await one.acquire("p", job, 0)

    assert not await one.acquire("p", "c", 0.01)


async def test_a_lost_workers_places_return_when_their_lease_ends(core: Core) -> None:
    lost, heir = worker(core, "w1", lease_s=0.05), worker(core, "w2")
    for job in ("a", "b"):
        await lost.acquire("p", job, 0)

    assert await heir.acquire("p", "c", TIMEOUT_S)


async def test_a_held_permit_is_renewed(core: Core) -> None:
    one, other = worker(core, "w1", lease_s=0.4), worker(core, "w2")
    renewing = asyncio.create_task(one.run())
    for job in ("a", "b"):
        await one.acquire("p", job, 0)

    assert not await other.acquire("p", "c", 1.0)
    renewing.cancel()


async def test_a_fenced_execution_gives_back_its_own_place_only(core: Core) -> None:
    zombie, heir = worker(core, "w1"), worker(core, "w2")
    await zombie.acquire("p", "a", 0)
    await heir.acquire("p", "a", 0)
    await zombie.release("p", "a")

    assert await core.client.zrange(core.keys.permits("p").holders, 0, -1) == [b"w2/a"]


async def test_a_provider_without_a_limit_is_never_asked_about(core: Core) -> None:
    one = worker(core, "w1")

    assert await one.acquire("another", "a", 0)
    await one.release("another", "a")
    assert await core.client.keys(f"{core.keys.prefix}*") == []


async def test_the_places_in_use_are_shown(core: Core) -> None:
    metrics = Metrics()
    one = worker(core, "w1", metrics=metrics)
    await one.acquire("p", "a", 0)

    assert metrics.calls.of("p").read() == 1
    assert await core.client.zcard(core.keys.permits("p").holders) == 1
    await one.release("p", "a")
    await one.release("p", "a")
    assert metrics.calls.of("p").read() == 0


def test_a_holder_is_named_after_its_worker_and_its_job() -> None:
    assert PermitHolder("p", "w", "a").name == "w/a"
