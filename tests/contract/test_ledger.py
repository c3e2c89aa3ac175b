"""Test one tenant's share of the queue: its waiting and running jobs, counted exactly and released by every end."""

import asyncio
from typing import Any

import pytest

from shared.model.errors import QueueFull, TooManyWaiting
from shared.model.jobs import JobSpec, Place
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import TenantBounds
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB
from shared.store.queue import Claim
from shared.store.queue_admission import Admitted, QueueAdmission
from shared.store.wire.answers import RetryLater, Taken
from tests.support.core import RETENTION_S, Core, make_spec

LANE = "default"
LEASE_S = 10.0


async def admit(core: Core, spec: JobSpec, **bounds: int) -> Admitted:
    return await core.queue_admission.admit(
        spec, max_depth=1_000, retention_s=RETENTION_S, bounds=TenantBounds(**bounds)
    )


async def enqueue(core: Core, *, bounds: dict[str, int], **changes: Any) -> str:
    spec = make_spec(**changes)
    await admit(core, spec, **bounds)
    assert await core.queue_admission.release(spec.id, spec.lane)
    return spec.id


async def take(core: Core, owner: str = "w.1", lanes: tuple[str, ...] = (LANE,), *, slots: int = 0) -> str | None:
    """Take the job that a worker gets next; None if none is ready for it."""
    found = await core.queue.take(lanes, owner, LEASE_S, slots=slots)
    return found.job_id if isinstance(found, Taken) else None


async def give_back(core: Core, job_id: str, owner: str = "w.1", in_s: float = 0.0) -> None:
    assert await core.queue.give_back(Claim(job_id, LANE, owner, 0.0), in_s)


async def counts(core: Core, tenant: str = "alice") -> tuple[int, int]:
    """Return a tenant's jobs that wait, and that run, by its ledger."""
    base = core.keys.ledgers + tenant
    return int(await core.client.zcard(f"{base}:waiting")), int(await core.client.zcard(f"{base}:running"))


async def everything(core: Core) -> set[bytes]:
    return set(await core.client.keys(f"{core.keys.prefix}:*"))


# Waiting.


async def test_one_job_too_many_is_refused_by_name_and_stores_nothing(core: Core) -> None:
    for _ in range(2):
        await admit(core, make_spec(), waiting=2, running=5)
    before, spec = await everything(core), make_spec(idempotency_key="k", lane="other")

    with pytest.raises(TooManyWaiting, match=r"2 of your jobs .*\(max_waiting_per_tenant\)"):
        await admit(core, spec, waiting=2)

    assert await everything(core) == before
    assert await core.client.exists(ARQ_JOB + spec.id) == 0
    assert not (await admit(core, make_spec(tenant="bob"), waiting=2)).existing


async def test_exactly_the_allowed_number_of_concurrent_requests_is_admitted(core: Core) -> None:
    answers = await asyncio.gather(*(admit(core, make_spec(), waiting=7) for _ in range(25)), return_exceptions=True)

    assert sum(isinstance(each, Admitted) for each in answers) == 7
    assert sum(isinstance(each, TooManyWaiting) for each in answers) == 18


async def test_a_taken_job_counts_as_running_and_a_returned_one_as_waiting(core: Core) -> None:
    job_id = await enqueue(core, bounds={"waiting": 1})
    assert await take(core) == job_id
    await admit(core, make_spec(), waiting=1)

    assert await counts(core) == (1, 1)
    await give_back(core, job_id)
    assert await counts(core) == (2, 0)


async def test_a_repeated_job_or_key_is_counted_once(core: Core) -> None:
    spec = make_spec(idempotency_key="k")
    for _ in range(2):
        assert (await admit(core, spec, waiting=1)).job_id == spec.id

    assert (await admit(core, make_spec(idempotency_key="k"), waiting=1)).existing
    assert await counts(core) == (1, 0)


async def test_an_end_gives_the_reservation_back_once(core: Core) -> None:
    job_id = await enqueue(core, bounds={})
    other = await enqueue(core, bounds={})
    await take(core)

    for _ in range(2):
        await core.queue.done(job_id, LANE)
    assert await counts(core) == (1, 0)
    await core.queue.done(other, LANE)
    assert await counts(core) == (0, 0)
    assert await core.client.hlen(core.keys.reservations) == 0  # type: ignore[misc]


async def test_refusals_are_counted_by_the_bound(core: Core) -> None:
    metrics = Metrics()
    queue_admission = QueueAdmission(core.client, core.keys, metrics)
    await enqueue(core, bounds={})
    for bounds, depth, error in ((TenantBounds(waiting=1), 9, TooManyWaiting), (TenantBounds(), 1, QueueFull)):
        with pytest.raises(error):
            await queue_admission.admit(make_spec(), max_depth=depth, retention_s=RETENTION_S, bounds=bounds)

    assert [metrics.refused.of(name).value for name in ("waiting", "depth")] == [1, 1]


# Running.


async def test_a_tenant_at_its_bound_is_passed_over_and_the_others_are_served(core: Core) -> None:
    mine = [await enqueue(core, bounds={"running": 2}) for _ in range(5)]
    others = await enqueue(core, bounds={"running": 2}, tenant="bob")

    assert [await take(core) for _ in range(3)] == [mine[0], others, mine[1]]
    assert await take(core) is None
    assert await counts(core) == (3, 2)


async def test_the_end_of_a_job_lets_the_one_run_that_was_due_first(core: Core) -> None:
    first, second, third = [await enqueue(core, bounds={"running": 1}) for _ in range(3)]
    assert [await take(core), await take(core)] == [first, None]

    await core.queue.done(first, LANE)

    assert await core.client.llen(core.keys.wake_ups(LANE)) > 0  # type: ignore[misc]
    assert [await take(core), await take(core)] == [second, None]
    await give_back(core, second, in_s=60.0)
    assert [await take(core), await take(core)] == [third, None]


@pytest.mark.parametrize("end", ["done", "leave_lane"])
async def test_if_a_job_that_was_woken_ends_before_it_runs_the_next_one_is_woken(core: Core, end: str) -> None:
    running, woken, last = [await enqueue(core, bounds={"running": 1}) for _ in range(3)]
    assert [await take(core), await take(core)] == [running, None]  # the others are passed over

    await core.queue.done(running, LANE)
    await getattr(core.queue, end)(woken, LANE)

    assert await take(core) == last
    assert await take(core) is None


async def test_jobs_that_were_passed_over_keep_their_order_and_their_tenants_turn_comes_again(core: Core) -> None:
    first, second, third = [await enqueue(core, bounds={"running": 1}) for _ in range(3)]
    assert [await take(core), await take(core)] == [first, None]
    later = [await enqueue(core, bounds={}, tenant="bob") for _ in range(2)]

    await core.queue.done(first, LANE)

    assert [await take(core), await take(core), await take(core)] == [later[0], second, later[1]]
    await core.queue.done(second, LANE)
    assert await take(core) == third


async def test_a_job_that_was_passed_over_in_one_lane_is_woken_by_an_end_in_another(core: Core) -> None:
    low = await enqueue(core, bounds={"running": 1}, lane="low")
    held = await enqueue(core, bounds={"running": 1})
    assert [await take(core, lanes=("low",)), await take(core)] == [low, None]

    await core.queue.done(low, "low")

    assert await take(core) == held


async def test_the_next_of_the_passed_over_jobs_is_that_of_the_first_requested_lane(core: Core) -> None:
    running, low, high = [await enqueue(core, bounds={"running": 1}, lane=lane) for lane in ("low", "low", "high")]
    assert [await take(core, lanes=lanes) for lanes in (("low",), ("low", "high"))] == [running, None]

    await core.queue.done(running, "low")

    assert await take(core, lanes=("high", "low")) == high
    await core.queue.done(high, "high")
    assert await take(core, lanes=("high", "low")) == low


async def test_the_job_of_a_lost_worker_is_taken_again_although_its_tenant_is_at_its_bound(core: Core) -> None:
    lost = await enqueue(core, bounds={"running": 1})
    await enqueue(core, bounds={"running": 1})
    assert await take(core) == lost
    await core.client.delete(ARQ_IN_PROGRESS + lost)
    await core.client.zadd(core.keys.lane(LANE), {lost: 0}, xx=True)

    assert [await take(core, "w.2"), await take(core, "w.2")] == [lost, None]
    assert await counts(core) == (1, 1)


async def test_a_higher_bound_lets_more_run_once_they_are_looked_at_again(core: Core) -> None:
    await enqueue(core, bounds={"running": 1})
    held = await enqueue(core, bounds={"running": 1})
    await take(core)
    assert await take(core) is None
    await admit(core, make_spec(), running=2)

    assert await core.client.zscore(core.keys.lane(LANE), held) is not None
    await core.client.zadd(core.keys.lane(LANE), {held: 0}, xx=True)

    assert await take(core) == held


async def test_one_call_passes_over_a_hundred_jobs_and_the_next_continues(core: Core) -> None:
    for _ in range(151):
        await enqueue(core, bounds={"running": 1})
    assert await take(core) is not None

    assert await core.queue.take([LANE], "w.1", LEASE_S) == RetryLater(0.001)
    assert await core.client.zcard(f"{core.keys.ledgers}alice:ready:{core.keys.lane(LANE)}") == 50
    other = await enqueue(core, bounds={}, tenant="bob")
    assert await take(core) == other


# Failures.


async def test_a_restored_job_is_reserved_again(core: Core) -> None:
    waiting, ran = make_spec(), make_spec()
    for spec, began in ((waiting, False), (ran, True)):
        place = Place(spec.id, LANE, began, "alice")
        assert await core.queue.restore(place, 1.0, lease_s=LEASE_S)
        assert not await core.queue.restore(place, 1.0, lease_s=LEASE_S)

    assert await counts(core) == (1, 1)


async def test_a_job_that_another_version_let_in_is_reserved_when_the_reaper_looks_at_it(core: Core) -> None:
    """Admit a job as a version without reservations does."""
    for claimed in (False, True):
        spec = make_spec()
        await admit(core, spec)
        await core.client.hdel(core.keys.reservations, spec.id)  # type: ignore[misc]
        await core.client.zrem(core.keys.ledgers + "alice:waiting", spec.id)
        if claimed:
            await core.client.set(ARQ_IN_PROGRESS + spec.id, "w.1")

        assert not await core.queue.restore(Place(spec.id, LANE, claimed, "alice"), 1.0)
    assert await counts(core) == (1, 1)


async def test_a_job_without_a_reservation_is_served_and_ended_all_the_same(core: Core) -> None:
    job_id = await enqueue(core, bounds={"running": 1})
    await core.client.delete(core.keys.reservations, core.keys.ledgers + "alice:waiting")

    assert await take(core) == job_id
    await core.queue.done(job_id, LANE)

    assert await counts(core) == (0, 0)


@pytest.mark.parametrize("taken", [False, True])
async def test_a_job_that_another_version_has_ended_is_found_at_the_bound(core: Core, taken: bool) -> None:
    ended = await enqueue(core, bounds={"running": 1})
    if taken:
        assert await take(core) == ended
    await core.client.zrem(core.keys.active, ended)
    await core.client.zrem(core.keys.lane(LANE), ended)

    job_id = await enqueue(core, bounds={"waiting": 1, "running": 1})

    assert await take(core) == job_id
    assert await counts(core) == (0, 1)


async def test_a_tenant_that_is_full_for_good_is_not_swept_at_each_refusal(core: Core) -> None:
    await admit(core, make_spec(), waiting=1)
    swept = []
    for _ in range(2):
        with pytest.raises(TooManyWaiting):
            await admit(core, make_spec(), waiting=1)
        swept.append(await core.client.hget(core.keys.ledgers + "alice:terms", "swept"))  # type: ignore[misc]

    assert swept[0] == swept[1] is not None


# Shares of the slots.


async def test_a_share_of_the_slots_is_counted_over_all_workers_that_are_alive(core: Core) -> None:
    for worker, slots in (("w1", 3), ("w2", 2)):
        await core.queue.report_alive("a-host", LEASE_S, worker=worker, slots=slots)
    jobs = [await enqueue(core, bounds={"running_percent": 60}) for _ in range(4)]

    assert [await take(core, slots=2) for _ in range(4)] == [*jobs[:3], None]


async def test_a_worker_that_has_not_reported_its_slots_counts_its_own(core: Core) -> None:
    jobs = [await enqueue(core, bounds={"running_percent": 80}) for _ in range(6)]

    assert [await take(core, slots=5) for _ in range(5)] == [*jobs[:4], None]


async def test_a_share_is_never_less_than_one_slot_and_without_slots_it_bounds_nothing(core: Core) -> None:
    jobs = [await enqueue(core, bounds={"running_percent": 80}) for _ in range(3)]

    assert [await take(core, slots=1) for _ in range(2)] == [jobs[0], None]
    other = [await enqueue(core, bounds={"running_percent": 80}, tenant="bob") for _ in range(2)]
    assert [await take(core), await take(core)] == other


async def test_a_worker_that_is_silent_has_no_slots(core: Core) -> None:
    await core.queue.report_alive("a-host", LEASE_S, worker="silent", slots=100)
    await core.client.zadd(core.keys.slots, {"silent 100": 1})
    await core.queue.report_alive("a-host", LEASE_S, worker="w1", slots=5)
    await core.queue.report_alive("a-host", LEASE_S, worker="w1", slots=5)

    assert await core.client.zrange(core.keys.slots, 0, -1) == [b"w1 5"]


# Turns.


async def test_tenants_take_turns_however_many_jobs_each_of_them_has(core: Core) -> None:
    flood = [await enqueue(core, bounds={}, tenant="bob") for _ in range(5)]
    mine = [await enqueue(core, bounds={}) for _ in range(2)]
    third = await enqueue(core, bounds={}, tenant="carol")

    taken = [await take(core) for _ in range(8)]

    assert taken == [flood[0], mine[0], third, flood[1], mine[1], *flood[2:]]
    assert await take(core) is None


async def test_a_tenant_that_comes_late_waits_for_one_job_of_each_other_tenant(core: Core) -> None:
    flood = [await enqueue(core, bounds={}, tenant="bob") for _ in range(4)]
    assert [await take(core), await take(core)] == flood[:2]
    mine = await enqueue(core, bounds={})

    assert [await take(core), await take(core), await take(core)] == [flood[2], mine, flood[3]]


async def test_a_tenant_at_its_bound_costs_the_others_no_turn(core: Core) -> None:
    flood = [await enqueue(core, bounds={"running": 1}, tenant="bob") for _ in range(150)]
    assert await take(core) == flood[0]
    mine = await enqueue(core, bounds={})

    assert await take(core) == mine


async def test_a_job_that_ends_while_it_waits_loses_its_turn(core: Core) -> None:
    first, second = [await enqueue(core, bounds={}, tenant="bob") for _ in range(2)]
    mine = await enqueue(core, bounds={})
    await core.queue.done(first, LANE)

    assert [await take(core), await take(core)] == [second, mine]
    assert not await core.client.exists(f"{core.keys.reservations}:turns:{core.keys.lane(LANE)}")


async def test_a_job_that_another_version_has_ended_is_passed_by(core: Core) -> None:
    gone, other = [await enqueue(core, bounds={}, tenant="bob") for _ in range(2)]
    mine = await enqueue(core, bounds={})
    await core.client.zrem(core.keys.lane(LANE), gone)

    assert [await take(core), await take(core)] == [other, mine]


async def test_a_job_that_became_due_by_time_is_next(core: Core) -> None:
    retried = await enqueue(core, bounds={}, tenant="bob")
    assert await take(core) == retried
    await give_back(core, retried, in_s=60.0)
    flood = [await enqueue(core, bounds={}, tenant="bob") for _ in range(2)]
    mine = await enqueue(core, bounds={})
    await core.client.zadd(core.keys.lane(LANE), {retried: 1}, xx=True)

    assert [await take(core) for _ in range(4)] == [retried, mine, *flood]


async def test_turns_do_not_stay_for_ever_and_jobs_without_one_are_served_by_time(core: Core) -> None:
    first, second = [await enqueue(core, bounds={}) for _ in range(2)]
    names = [f"{core.keys.ledgers}alice:ready:{core.keys.lane(LANE)}"]
    names.append(f"{core.keys.reservations}:turns:{core.keys.lane(LANE)}")
    assert all([0 < await core.client.pttl(name) <= 86_400_000 for name in names])
    await core.client.delete(*names)

    assert [await take(core), await take(core), await take(core)] == [first, second, None]


async def test_a_tenants_terms_live_as_long_as_its_list(core: Core) -> None:
    for timeout_s in (1_000.0, 10.0):
        await admit(core, make_spec(timeout_s=timeout_s), running=1)

    terms = await core.client.pttl(core.keys.tenant_terms("alice"))
    listed = await core.client.pttl(core.keys.tenant_jobs("alice"))
    assert 1_000_000 < listed - 1_000 <= terms <= listed + 1_000
