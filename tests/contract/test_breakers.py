"""Circuits that several workers share."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.circuits import Change, Circuits, Found
from shared.clock import SystemClock
from shared.metrics import Metrics
from tests.support.core import Core, captured_logs
from worker.breaker import Policy
from worker.breakers import Breakers

QUICK = Policy(window_ms=60_000, min_calls=4, open_ms=0, open_most_ms=0, probe_ms=60_000)
SLOW = Policy(window_ms=60_000, min_calls=4, open_ms=60_000, open_most_ms=60_000)


class Count(Circuits):
    """Circuits that count their round trips."""

    trips = 0

    async def exchange(self, changes: Sequence[Change]) -> tuple[int, list[Found]]:
        """Counted."""
        self.trips += 1
        return await super().exchange(changes)


def breakers(core: Core, policy: Policy, metrics: Metrics | None = None) -> Breakers:
    """Those of one more worker."""
    return Breakers(Circuits(core.client, core.keys), SystemClock(), policy, metrics)


@pytest.fixture
def pair(core: Core) -> tuple[Breakers, Breakers]:
    """Two workers', whose circuits stay open for long."""
    return breakers(core, SLOW), breakers(core, SLOW)


def fail(worker: Breakers, times: int, model: str = "m") -> None:
    for _ in range(times):
        worker.failed("p", model)


async def test_the_failures_that_two_workers_saw_together_open_the_circuit_for_both(
    pair: tuple[Breakers, Breakers],
) -> None:
    one, other = pair
    for worker in pair:
        fail(worker, 2)
        assert await worker.allows("p", "m")
        await worker.share()
    await one.look()

    assert not await one.allows("p", "m")
    assert not await other.allows("p", "m")
    assert await one.allows("p", "another model")


async def test_a_worker_that_has_seen_nothing_learns_of_an_open_circuit(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    fail(one, 4)
    await one.share()

    await other.look()
    assert not await other.allows("p", "m")


async def test_successes_after_a_failure_keep_a_circuit_closed(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    fail(one, 1)
    await one.share()
    await other.look()
    for _ in range(5):
        other.succeeded("p", "m")
    await other.share()
    fail(one, 3)
    await one.share()

    assert await one.allows("p", "m")


async def test_reports_of_many_workers_at_once_are_all_counted(core: Core) -> None:
    policy = Policy(window_ms=60_000, min_calls=400, open_ms=60_000)
    workers = [breakers(core, policy) for _ in range(4)]
    for worker in workers:
        fail(worker, 100)
    await asyncio.gather(*(worker.share() for worker in workers))
    for worker in workers:
        await worker.look()

    assert [await worker.allows("p", "m") for worker in workers] == [False] * 4


async def test_one_trial_call_is_made_over_all_workers(core: Core) -> None:
    workers = [breakers(core, QUICK) for _ in range(5)]
    fail(workers[0], 4)
    for worker in workers:
        await worker.share()
        await worker.look()
    allowed = await asyncio.gather(*(worker.allows("p", "m") for worker in workers))

    assert allowed.count(True) == 1
    workers[allowed.index(True)].succeeded("p", "m")
    await workers[allowed.index(True)].share()
    for worker in workers:
        await worker.look()
    assert [await worker.allows("p", "m") for worker in workers] == [True] * 5


async def test_a_trial_that_fails_opens_the_circuit_anew(core: Core) -> None:
    worker = breakers(core, Policy(min_calls=1, open_ms=1, open_most_ms=60_000, window_ms=60_000))
    fail(worker, 1)
    await worker.share()
    async with asyncio.timeout(5):
        for _ in range(9):  # 1 ms, then twice as long each time
            while not await worker.allows("p", "m"):
                await worker.share()
            fail(worker, 1)
            await worker.share()

    assert not await worker.allows("p", "m")


async def test_a_provider_that_is_well_costs_no_round_trip(core: Core) -> None:
    circuits = Count(core.client, core.keys)
    worker = Breakers(circuits, SystemClock(), SLOW)
    for _ in range(100):
        assert await worker.allows("p", "m")
        worker.succeeded("p", "m")
    await worker.share()

    assert circuits.trips == 0


async def test_a_change_is_logged_and_shown(core: Core) -> None:
    metrics = Metrics()
    worker = breakers(core, SLOW, metrics)
    fail(worker, 4)
    with captured_logs() as logs:
        await worker.share()

    (event,) = logs.named("breaker.changed")
    assert (event["provider"], event["model"], event["state"]) == ("p", "m", "open")
    assert metrics.circuits_open.of("p").read() == 1


async def test_what_says_nothing_any_more_is_forgotten(core: Core) -> None:
    worker = breakers(core, Policy(window_ms=6, buckets=6))
    for number in range(50):
        worker.failed("p", f"made up {number}")
    await worker.share()
    async with asyncio.timeout(5):
        while worker._known or await core.client.exists(core.keys.circuits):
            await worker.look()


@pytest.mark.parametrize("value", ["{}", "no JSON", '{"counts":[],"opened_ms":null,"reopened":0}', "[]"])
async def test_what_another_version_wrote_is_closed_and_forgotten(core: Core, value: str) -> None:
    await core.client.hset(core.keys.circuits, "p/m", value)  # type: ignore[misc]
    worker = breakers(core, SLOW)
    await worker.look()

    assert await worker.allows("p", "m")
    assert not await core.client.exists(core.keys.circuits)


async def test_an_open_circuit_that_nobody_asks_for_is_forgotten(core: Core) -> None:
    worker = breakers(core, Policy(window_ms=6, buckets=6, min_calls=1, open_ms=1))
    fail(worker, 1)
    await worker.share()
    async with asyncio.timeout(5):
        while await core.client.exists(core.keys.circuits):
            await worker.look()


async def test_a_circuit_is_changed_only_as_it_was_seen(core: Core) -> None:
    circuits = Circuits(core.client, core.keys)
    _, found = await circuits.exchange([Change("a", b"", b"1"), Change("b", b"other", b"1"), Change("c")])
    assert found == [(True, b"1"), (False, b""), (False, b"")]

    _, found = await circuits.exchange([Change("a", b"1", b"2"), Change("a", b"1", b"2"), Change("a")])
    assert found == [(True, b"2"), (False, b"2"), (False, b"2")]
    assert (await circuits.all())[1] == {"a": b"2"}

    _, found = await circuits.exchange([Change("a", b"2", b"")])
    assert (found, (await circuits.all())[1]) == ([(True, b"")], {})
