"""Test the queue: the choice of a job for a worker, its claim, and that no job is lost or run twice."""

import asyncio
from collections import Counter

import pytest

from shared.model.errors import QueueFull
from shared.model.lanes import LaneScheduler, parse_lanes
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.queue import Claim
from shared.store.wire.answers import Empty, RetryLater, Taken
from tests.contract.queues import LANE, LEASE_S, admit, enqueue, move, take, take_when_due, wait_of, wake_ups
from tests.support.core import Core, make_spec

# Long enough to be observed, short enough for a test.
SHORT_LEASE_S = 0.5


async def test_jobs_are_taken_in_the_order_in_which_they_became_ready(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(3)]
    # Enqueued within one millisecond they would be equals.
    for place, spec in enumerate(specs):
        await move(core, spec.id, place - 10)

    assert [(await take(core, f"w.{n}")).job_id for n in range(3)] == [spec.id for spec in specs]


async def test_the_first_lane_that_has_a_job_is_served(core: Core) -> None:
    await enqueue(core, lane="low")
    high = await enqueue(core, lane="high")
    lanes = ("empty", "high", "low")

    taken = await take(core, lanes=lanes)

    assert (taken.lane, taken.job_id) == ("high", high.id)
    assert (await take(core, lanes=lanes)).lane == "low"
    assert not isinstance(await core.queue.take(lanes, "w.1", LEASE_S), Taken)


async def test_takers_with_a_rota_each_share_a_backlog_by_weight_and_no_job_is_taken_twice(core: Core) -> None:
    lanes = parse_lanes(["high:4", "default:2", "low:1"])
    for lane in lanes:
        for _ in range(70):
            await enqueue(core, lane=lane.name)

    async def taker(name: int) -> Counter[str]:
        scheduler, served = LaneScheduler(lanes, 1), Counter[str]()
        for _ in range(35):
            taken = await take(core, f"w.{name}", lanes=tuple(scheduler.order()))
            scheduler.charge(taken.lane)
            scheduler.free(taken.lane)
            served[taken.lane] += 1
        return served

    fleet = await asyncio.gather(*map(taker, range(3)))

    assert fleet == [Counter(high=20, default=10, low=5)] * 3


async def test_a_lane_whose_jobs_are_all_claimed_does_not_stop_those_after_it(core: Core) -> None:
    held = await enqueue(core, lane="high")
    await take(core, lanes=("high",))
    await move(core, held.id, -60_000, "high")
    low = await enqueue(core, lane="low")

    assert (await take(core, "w.2", lanes=("high", "low"))).job_id == low.id


async def test_a_jobs_place_and_a_lanes_depth_are_those_of_its_lane(core: Core) -> None:
    await enqueue(core, lane="high")
    first, second = await enqueue(core, lane="low"), await enqueue(core, lane="low")
    await move(core, first.id, -10, "low")

    assert [await core.queue.position(each.id, "low") for each in (first, second)] == [1, 2]
    assert [await core.depth(lane) for lane in ("high", "low", LANE)] == [1, 2, 0]
    with pytest.raises(QueueFull, match="lane low already holds 2"):
        await admit(core, make_spec(lane="low"), max_depth=2)
    assert not (await admit(core, make_spec(lane="high"), max_depth=2)).existing


async def test_taking_claims_the_job_for_its_owner_and_its_lease(core: Core) -> None:
    spec = await enqueue(core)
    score = await core.client.zscore(core.keys.lane(LANE), spec.id)

    taken = await take(core, "w.7")

    assert (taken.lane, taken.job_id, taken.due_ms) == (LANE, spec.id, int(score))
    assert await core.client.get(ARQ_IN_PROGRESS + spec.id) == b"w.7"
    assert 0 < await core.client.pttl(ARQ_IN_PROGRESS + spec.id) <= LEASE_S * 1000
    assert 0 < await wait_of(core, "w.8") <= LEASE_S


async def test_two_takers_never_get_the_same_job(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(100)]
    taken: list[str] = []

    async def taker(name: int) -> None:
        while isinstance(found := await core.queue.take([LANE], f"w.{name}", LEASE_S), Taken):
            taken.append(found.job_id)

    await asyncio.gather(*map(taker, range(20)))

    assert sorted(taken) == sorted(spec.id for spec in specs)


async def test_a_job_whose_worker_died_is_due_again_when_the_lease_ends(core: Core) -> None:
    spec = await enqueue(core)
    await take(core, "the-dead", SHORT_LEASE_S)

    assert (await take_when_due(core, "w.2")).job_id == spec.id
    assert await core.client.get(ARQ_IN_PROGRESS + spec.id) == b"w.2"


async def test_a_due_job_that_is_still_claimed_waits_for_the_claim(core: Core) -> None:
    spec = await enqueue(core)
    await take(core, "w.1")
    await move(core, spec.id, -60_000)

    assert 0 < await wait_of(core, "w.2") <= LEASE_S
    assert await core.client.get(ARQ_IN_PROGRESS + spec.id) == b"w.1"


async def test_a_claim_without_an_end_gets_one(core: Core) -> None:
    spec = await enqueue(core)
    await core.client.set(ARQ_IN_PROGRESS + spec.id, "somebody")

    assert (await take_when_due(core, "w.2", SHORT_LEASE_S)).job_id == spec.id


async def test_a_claimed_job_at_the_head_does_not_block_those_behind_it(core: Core) -> None:
    head, behind = await enqueue(core), await enqueue(core)
    await move(core, head.id, -100)
    await core.client.set(ARQ_IN_PROGRESS + head.id, "somebody", px=60_000)

    assert (await take(core)).job_id == behind.id


async def test_jobs_that_ran_before_an_outage_are_left_to_their_workers_for_a_lease(core: Core) -> None:
    ran, fresh = await enqueue(core), await enqueue(core)
    await move(core, ran.id, -100)
    await core.client.set(ARQ_RETRY + ran.id, 1)

    taken = await core.queue.take([LANE], "w.1", LEASE_S, spare=True)
    assert isinstance(taken, Taken)
    assert taken.job_id == fresh.id
    wait = await core.queue.take([LANE], "w.1", LEASE_S, spare=True)
    assert isinstance(wait, RetryLater)
    assert 0 < wait.after_s <= LEASE_S
    assert not await core.client.exists(ARQ_IN_PROGRESS + ran.id)

    await move(core, ran.id, -int(LEASE_S * 1000))
    assert (await take(core)).job_id == ran.id


async def test_a_call_that_was_stuck_in_a_frozen_server_claims_nothing(core: Core) -> None:
    """Delay a call until its caller has given it up: meanwhile claims may have run out, which no call could renew."""
    spec = await enqueue(core)
    assert await core.queue.take(["another"], "w.1", LEASE_S) == Empty()  # the client learns the server's clock here
    await core.client.execute_command("CLIENT", "PAUSE", 400, "ALL")

    with pytest.raises(TimeoutError):
        await core.queue.take([LANE], "w.1", lease_s=0.5)

    assert not await core.client.exists(ARQ_IN_PROGRESS + spec.id)
    assert (await take(core)).job_id == spec.id


async def test_an_empty_take_returns_the_wait_for_the_next_deferred_job(core: Core) -> None:
    assert await core.queue.take([LANE], "w.1", LEASE_S) == Empty()
    later, sooner = await enqueue(core), await enqueue(core, lane="other")
    await move(core, later.id, 60_000)
    await move(core, sooner.id, 20_000, "other")

    assert 10 < await wait_of(core, "w.1", (LANE, "other")) <= 20


async def test_rings_that_have_been_answered_are_forgotten(core: Core) -> None:
    await enqueue(core)
    await enqueue(core)
    assert await wake_ups(core) == 2

    await take(core)
    assert await wake_ups(core) == 2
    await take(core)
    assert not isinstance(await core.queue.take([LANE], "w.1", LEASE_S), Taken)

    assert await wake_ups(core) == 0


async def test_a_ring_for_a_lane_that_was_not_asked_is_left_to_others(core: Core) -> None:
    low = await enqueue(core, lane="low")

    assert await core.queue.take([LANE], "w.1", LEASE_S) == Empty()

    assert await wake_ups(core, "low") == 1
    assert (await take(core, "w.2", lanes=(LANE, "low"))).job_id == low.id


async def test_a_take_from_no_lanes_returns_nothing(core: Core) -> None:
    await enqueue(core)

    assert await core.queue.take([], "w.1", LEASE_S) == Empty()
    assert await wake_ups(core) == 1


async def test_waiting_takes_one_wake_up_and_ends_without_an_error_if_none_comes(core: Core) -> None:
    await core.client.lpush(core.keys.wake_ups(LANE), "1", "1")  # type: ignore[misc]

    await core.queue.wait_for_wake_up(core.client, [LANE], 5.0)
    assert await wake_ups(core) == 1

    await core.queue.wait_for_wake_up(core.client, [LANE], 5.0)
    await core.queue.wait_for_wake_up(core.client, [LANE], 0.01)
    assert await wake_ups(core) == 0


async def test_a_wake_up_reaches_those_that_wait_for_its_lane(core: Core) -> None:
    await core.queue.wait_for_wake_up(core.client, [LANE, "low"], 0.01)
    await enqueue(core, lane="low")

    await core.queue.wait_for_wake_up(core.client, [LANE, "high"], 0.01)
    assert await wake_ups(core, "low") == 1
    await core.queue.wait_for_wake_up(core.client, [LANE, "low"], 5.0)
    assert await wake_ups(core, "low") == 0


def claim(taken: Taken, owner: str = "w.1") -> Claim:
    return Claim(taken.job_id, taken.lane, owner, good_until=0.0)


async def test_a_renewed_claim_and_its_place_in_the_lane_last_another_lease(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, lease_s=1.0)

    assert await core.queue.renew([claim(taken)], 60.0) == ["ok"]

    assert await core.client.pttl(ARQ_IN_PROGRESS + taken.job_id) > 30_000
    assert await wait_of(core, "w.2") > 30


async def test_renewing_returns_the_state_of_each_claim(core: Core) -> None:
    for _ in range(4):
        await enqueue(core)
    held, expired, lost, gone = [await take(core) for _ in range(4)]
    await core.client.delete(ARQ_IN_PROGRESS + expired.job_id)
    await core.client.set(ARQ_IN_PROGRESS + lost.job_id, "w.2", px=60_000)
    await core.queue.done(gone.job_id, LANE)

    answers = await core.queue.renew([claim(each) for each in (held, expired, lost, gone)], LEASE_S)

    assert answers == ["ok", "ok", "lost", "gone"]
    assert await core.client.get(ARQ_IN_PROGRESS + expired.job_id) == b"w.1"
    assert await core.client.get(ARQ_IN_PROGRESS + lost.job_id) == b"w.2"
    assert not await core.client.exists(ARQ_IN_PROGRESS + gone.job_id)
    assert await core.queue.renew([], LEASE_S) == []


async def test_a_claim_that_expired_and_was_taken_by_another_is_lost(core: Core) -> None:
    await enqueue(core)
    former = await take(core, "w.1", SHORT_LEASE_S)
    await take_when_due(core, "w.2")

    assert await core.queue.renew([claim(former, "w.1")], LEASE_S) == ["lost"]


async def test_a_job_that_is_given_back_is_ready_at_once_and_rings(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, "w.1")
    await core.client.delete(core.keys.wake_ups(LANE))

    assert await core.queue.give_back(claim(taken))

    assert await wake_ups(core) == 1
    assert (await take(core, "w.2")).job_id == taken.job_id


async def test_only_the_owner_of_a_job_can_give_it_back(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, "w.1")

    assert not await core.queue.give_back(claim(taken, "w.2"))
    assert await core.client.get(ARQ_IN_PROGRESS + taken.job_id) == b"w.1"
    assert await core.queue.give_back(claim(taken, "w.1"))
    assert not await core.queue.give_back(claim(taken, "w.1"))


async def test_a_job_that_ended_meanwhile_does_not_return_by_being_given_back(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, "w.1")
    await core.client.zrem(core.keys.lane(LANE), taken.job_id)

    assert await core.queue.give_back(claim(taken))

    assert await core.depth(LANE) == 0


async def test_the_queue_keeps_nothing_of_a_completed_job(core: Core) -> None:
    spec = await enqueue(core)
    await take(core)
    await core.client.set(ARQ_RETRY + spec.id, 1)

    await core.queue.done(spec.id, LANE)
    await core.queue.done(spec.id, LANE)

    assert await core.client.exists(ARQ_JOB + spec.id, ARQ_IN_PROGRESS + spec.id, ARQ_RETRY + spec.id) == 0
    assert await core.depth(LANE) == 0
    assert await core.client.zscore(core.keys.active, spec.id) is None
    # It stays listed: it can still be read.
    assert await core.tenant_lists.listed("alice", after=None, limit=9) == [spec.id]


async def test_only_a_waiting_job_has_a_position(core: Core) -> None:
    first, second, third = [await enqueue(core) for _ in range(3)]
    for place, spec in enumerate((first, second, third)):
        await move(core, spec.id, place - 10)
    assert [await core.queue.position(spec.id, LANE) for spec in (first, second, third)] == [1, 2, 3]

    assert (await take(core)).job_id == first.id
    await core.queue.done(second.id, LANE)

    assert await core.queue.position(third.id, LANE) == 1
    assert await core.queue.position(second.id, LANE) is None
    assert await core.queue.position(third.id, "other") is None


async def test_a_worker_counts_as_alive_for_as_long_as_it_says(core: Core) -> None:
    await core.queue.report_alive("a-host", 5.0, worker="w1", slots=1)

    assert 0 < await core.client.pttl(core.keys.worker("a-host")) <= 5_000
    assert not await core.client.exists(core.keys.worker("another-host"))
