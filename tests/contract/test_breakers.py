"""Test circuits that several workers share."""

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.store.breaker_state import BreakerStates, Change, Found
from tests.support.core import Core, captured_logs
from worker.model.breaker import Policy
from worker.upstream.breakers import NO, Breakers, CallOrigin

QUICK = Policy(window_ms=60_000, min_calls=4, open_ms=0, open_most_ms=0, probe_ms=60_000)
_NUMBERS = count()
SLOW = Policy(window_ms=60_000, min_calls=4, open_ms=60_000, open_most_ms=60_000)


class Count(BreakerStates):
    """Count the round trips of circuits."""

    trips = 0

    async def compare_and_set(self, changes: Sequence[Change]) -> tuple[int, list[Found]]:
        """Count the call, and make it."""
        self.trips += 1
        return await super().compare_and_set(changes)


def breakers(core: Core, policy: Policy, metrics: Metrics | None = None) -> Breakers:
    """Build the breakers of one more worker."""
    return Breakers(BreakerStates(core.client, core.keys), SystemClock(), policy, metrics)


@pytest.fixture
def pair(core: Core) -> tuple[Breakers, Breakers]:
    """Build the breakers of two workers, with circuits that stay open for long."""
    return breakers(core, SLOW), breakers(core, SLOW)


def call(tenant: str = "t") -> CallOrigin:
    """Build the origin of a call with a request of its own."""
    return CallOrigin(tenant, {"number": next(_NUMBERS)})


def fail(worker: Breakers, times: int, model: str = "m", tenant: str = "t") -> None:
    for _ in range(times):
        worker.failed("p", model, call(tenant))


async def allows(worker: Breakers, model: str = "m", tenant: str = "t") -> bool:
    return (await worker.allows("p", model, call(tenant))).granted


async def test_the_failures_that_two_workers_saw_together_open_the_circuit_for_both(
    pair: tuple[Breakers, Breakers],
) -> None:
    one, other = pair
    for worker in pair:
        fail(worker, 2)
        assert await allows(worker)
        await worker.share()
    await one.refresh()

    assert not await allows(one)
    assert not await allows(other)
    assert await allows(one, "another model")


async def test_a_worker_that_has_seen_nothing_learns_of_an_open_circuit(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    fail(one, 4)
    await one.share()

    await other.refresh()
    assert not await allows(other)


async def test_successes_after_a_failure_keep_a_circuit_closed(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    fail(one, 1)
    await one.share()
    await other.refresh()
    for _ in range(5):
        other.succeeded("p", "m", call())
    await other.share()
    fail(one, 3)
    await one.share()

    assert await allows(one)


async def test_reports_of_many_workers_at_once_are_all_counted(core: Core) -> None:
    policy = Policy(window_ms=60_000, min_calls=400, open_ms=60_000)
    workers = [breakers(core, policy) for _ in range(4)]
    for worker in workers:
        fail(worker, 100)
    await asyncio.gather(*(worker.share() for worker in workers))
    for worker in workers:
        await worker.refresh()

    assert [await allows(worker) for worker in workers] == [False] * 4


async def test_one_trial_call_is_made_over_all_workers(core: Core) -> None:
    workers = [breakers(core, QUICK) for _ in range(5)]
    fail(workers[0], 4)
    for worker in workers:
        await worker.share()
        await worker.refresh()
    allowed = await asyncio.gather(*(allows(worker) for worker in workers))

    assert allowed.count(True) == 1
    workers[allowed.index(True)].succeeded("p", "m", call())
    await workers[allowed.index(True)].share()
    for worker in workers:
        await worker.refresh()
    assert [await allows(worker) for worker in workers] == [True] * 5


async def test_a_trial_that_fails_opens_the_circuit_anew(core: Core) -> None:
    worker = breakers(core, Policy(min_calls=1, open_ms=1, open_most_ms=60_000, window_ms=60_000))
    fail(worker, 1)
    await worker.share()
    async with asyncio.timeout(5):
        for _ in range(9):  # 1 ms, then twice as long each time
            while not await allows(worker):
                await worker.share()
            fail(worker, 1)
            await worker.share()

    assert not await allows(worker)


async def test_one_tenants_failures_refuse_the_provider_to_no_other(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    fail(one, 40, tenant="a")
    for _ in range(5):
        one.succeeded("p", "m", call("b"))
    await one.share()
    await other.refresh()

    assert [await allows(other, tenant=tenant) for tenant in "ab"] == [False, True]


async def test_failures_of_several_tenants_refuse_the_provider_to_all(pair: tuple[Breakers, Breakers]) -> None:
    one, other = pair
    for tenant in "abcd":
        fail(one, 1, tenant=tenant)
    await one.share()
    await other.refresh()

    assert not await allows(other, tenant="e")


async def test_one_request_opens_nothing_however_often_it_is_tried(pair: tuple[Breakers, Breakers]) -> None:
    origin = CallOrigin("t", {"picture": "broken"})
    for worker in pair:
        for _ in range(20):
            worker.failed("p", "m", origin)
        await worker.share()

    assert [await allows(worker) for worker in pair] == [True, True]


async def test_a_trial_without_a_verdict_makes_room_for_another(core: Core) -> None:
    worker = breakers(core, QUICK)
    for tenant in "abcd":
        fail(worker, 1, tenant=tenant)
    await worker.share()
    trial = await worker.allows("p", "m", call("x"))
    assert trial.trials
    assert await worker.allows("p", "m", call("y")) == NO
    await worker.given_back(trial)

    assert (await worker.allows("p", "m", call("y"))).trials


async def test_a_trial_of_an_own_circuit_is_given_back_if_the_common_one_is_open(core: Core) -> None:
    worker = breakers(core, QUICK)
    fail(worker, 4, tenant="a")
    for tenant in "bcd":
        fail(worker, 2, tenant=tenant)
    await worker.share()
    trial = await worker.allows("p", "m", call("x"))
    assert trial.trials
    # The common trial is taken: that of the own circuit must not stay claimed.
    assert await worker.allows("p", "m", call("a")) == NO
    await worker.given_back(trial)

    assert (await worker.allows("p", "m", call("a"))).trials


async def test_a_trial_of_an_own_circuit_gives_back_no_trial_of_another_caller(core: Core) -> None:
    worker = breakers(core, QUICK)
    fail(worker, 4, tenant="a")
    await worker.share()
    own = await worker.allows("p", "m", call("a"))
    assert own.trials == ("p/a/m",)
    for tenant in "bcd":
        fail(worker, 2, tenant=tenant)
    await worker.share()
    assert (await worker.allows("p", "m", call("x"))).trials == ("p//m",)
    await worker.given_back(own)

    assert await worker.allows("p", "m", call("y")) == NO


async def test_a_provider_that_is_well_costs_no_round_trip(core: Core) -> None:
    circuits = Count(core.client, core.keys)
    worker = Breakers(circuits, SystemClock(), SLOW)
    for _ in range(100):
        assert await allows(worker)
        worker.succeeded("p", "m", call())
    await worker.share()

    assert circuits.trips == 0


async def test_a_change_is_logged_and_shown(core: Core) -> None:
    metrics = Metrics()
    worker = breakers(core, SLOW, metrics)
    fail(worker, 4)
    with captured_logs() as logs:
        await worker.share()

    (event,) = logs.named("breaker.changed")
    assert (event["provider"], event["model"], event["tenant"], event["state"]) == ("p", "m", "t", "open")
    assert metrics.circuits_open.of("p").read() == 1


async def test_a_state_without_recent_calls_is_deleted(core: Core) -> None:
    worker = breakers(core, Policy(window_ms=6, buckets=6))
    for number in range(50):
        worker.failed("p", f"made up {number}", call())
    await worker.share()
    async with asyncio.timeout(5):
        while worker._known or await core.client.exists(core.keys.breaker_states):
            await worker.refresh()


@pytest.mark.parametrize("value", ["{}", "no JSON", '{"counts":[],"opened_ms":null,"reopened":0}', "[]"])
async def test_a_state_that_another_version_wrote_counts_as_closed_and_is_deleted(core: Core, value: str) -> None:
    await core.client.hset(core.keys.breaker_states, "p//m", value)  # type: ignore[misc]
    worker = breakers(core, SLOW)
    await worker.refresh()

    assert await allows(worker)
    assert not await core.client.exists(core.keys.breaker_states)


async def test_an_open_circuit_without_calls_is_deleted(core: Core) -> None:
    worker = breakers(core, Policy(window_ms=6, buckets=6, min_calls=1, open_ms=1))
    fail(worker, 1)
    await worker.share()
    async with asyncio.timeout(5):
        while await core.client.exists(core.keys.breaker_states):
            await worker.refresh()


async def test_a_circuit_is_changed_only_as_it_was_seen(core: Core) -> None:
    circuits = BreakerStates(core.client, core.keys)
    _, found = await circuits.compare_and_set([Change("a", b"", b"1"), Change("b", b"other", b"1"), Change("c")])
    assert found == [(True, b"1"), (False, b""), (False, b"")]

    _, found = await circuits.compare_and_set([Change("a", b"1", b"2"), Change("a", b"1", b"2"), Change("a")])
    assert found == [(True, b"2"), (False, b"2"), (False, b"2")]
    assert (await circuits.all())[1] == {"a": b"2"}

    _, found = await circuits.compare_and_set([Change("a", b"2", b"")])
    assert (found, (await circuits.all())[1]) == ([(True, b"")], {})
