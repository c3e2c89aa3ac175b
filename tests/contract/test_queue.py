"""Test the queue: admission, the choice of a job for a worker, and that no job is lost or run twice."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import deserialize_job_raw

from shared.model.errors import IdempotencyConflict, QueueFull
from shared.model.jobs import LONGEST_TIMEOUT_S, Abandonment, JobSpec, created_ms, new_job_id
from shared.model.lanes import LaneScheduler, parse_lanes
from shared.store.answers import Empty, RetryLater, Taken
from shared.store.arq_messages import ARQ_FUNCTION, deserialize, serialize
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.queue import Backlog, Claim
from shared.store.queue_admission import Admitted
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, fresh_job_id, make_spec

LANE = "default"
LEASE_S = 10.0
# Long enough to be observed, short enough for a test.
SHORT_LEASE_S = 0.5


async def admit(core: Core, spec: JobSpec, max_depth: int = 1_000) -> Admitted:
    return await core.queue_admission.admit(spec, max_depth=max_depth, retention_s=RETENTION_S)


async def enqueue(core: Core, **changes: Any) -> JobSpec:
    """Admit a job and make it ready to be taken."""
    spec = make_spec(**changes)
    await admit(core, spec)
    assert await core.queue_admission.release(spec.id, spec.lane)
    return spec


async def take(core: Core, owner: str = "w.1", lease_s: float = LEASE_S, lanes: tuple[str, ...] = (LANE,)) -> Taken:
    found = await core.queue.take(lanes, owner, lease_s)
    assert isinstance(found, Taken), found
    return found


async def take_when_due(core: Core, owner: str, lease_s: float = LEASE_S) -> Taken:
    """Wait for a job as a worker does: for a wake-up, or for the time that `take` says."""
    async with asyncio.timeout(TIMEOUT_S):
        while not isinstance(found := await core.queue.take([LANE], owner, lease_s), Taken):
            await core.queue.wait_for_wake_up(
                core.client, [LANE], found.after_s if isinstance(found, RetryLater) else 1.0
            )
    return found


async def move(core: Core, job_id: str, by_ms: int, lane: str = LANE) -> None:
    """Let a job be due earlier or later than it was."""
    await core.client.zincrby(core.keys.lane(lane), by_ms, job_id)


async def wait_of(core: Core, owner: str, lanes: tuple[str, ...] = (LANE,)) -> float:
    """Return the time (s) until the next job is due, if none is ready."""
    found = await core.queue.take(lanes, owner, LEASE_S)
    assert isinstance(found, RetryLater), found
    return found.after_s


async def wake_ups(core: Core, lane: str = LANE) -> int:
    return int(await core.client.llen(core.keys.wake_ups(lane)))  # type: ignore[misc]


async def everything(core: Core) -> set[bytes]:
    """Return the names of all keys under this test's prefix."""
    return set(await core.client.keys(f"{core.keys.prefix}:*"))


# Admit.


async def test_an_admitted_job_waits_five_seconds_for_its_record_and_then_runs_by_itself(core: Core) -> None:
    spec = make_spec()

    assert await admit(core, spec) == Admitted(spec.id, existing=False, position=1)

    assert 0 < await wait_of(core, "w.1") <= 5
    assert await wake_ups(core) == 0
    await move(core, spec.id, -5_000)
    assert (await take(core)).job_id == spec.id


async def test_a_released_job_is_due_at_once_and_rings(core: Core) -> None:
    spec = make_spec()
    await admit(core, spec)

    assert await core.queue_admission.release(spec.id, LANE)

    assert await wake_ups(core) == 1
    assert (await take(core)).job_id == spec.id


async def test_a_waiting_worker_hears_the_release(core: Core) -> None:
    spec = make_spec()
    await admit(core, spec)
    waiting = asyncio.create_task(take_when_due(core, "w.1"))

    await core.queue_admission.release(spec.id, LANE)

    assert (await waiting).job_id == spec.id


async def test_a_job_that_was_taken_or_has_ended_is_not_released_again(core: Core) -> None:
    taken, ended = make_spec(), make_spec()
    for spec in (taken, ended):
        await admit(core, spec)
    await move(core, taken.id, -5_000)
    assert (await take(core)).job_id == taken.id
    await core.queue.done(ended.id, LANE)

    assert not await core.queue_admission.release(taken.id, LANE)
    assert not await core.queue_admission.release(ended.id, LANE)
    assert await wake_ups(core) == 0


async def test_a_lane_keeps_no_more_wake_ups_than_workers_could_use(core: Core) -> None:
    spec = await enqueue(core)
    await core.client.lpush(core.keys.wake_ups(LANE), *["1"] * 2_000)  # type: ignore[misc]

    await core.queue_admission.release(spec.id, LANE)

    assert await wake_ups(core) == 1_000


async def test_each_job_is_told_its_place_among_those_that_wait(core: Core) -> None:
    await enqueue(core)
    await enqueue(core)
    await take(core)

    assert (await admit(core, make_spec())).position == 2
    assert (await admit(core, make_spec(lane="other"))).position == 1


async def test_a_full_lane_lets_nobody_in_and_stores_nothing(core: Core) -> None:
    for _ in range(2):
        await enqueue(core)
    before, spec = await everything(core), make_spec(tenant="nobody-yet", idempotency_key="k")

    with pytest.raises(QueueFull, match="2 waiting jobs"):
        await admit(core, spec, max_depth=2)

    assert await everything(core) == before
    assert not await core.client.exists(ARQ_JOB + spec.id)
    assert await core.client.zscore(core.keys.lane(LANE), spec.id) is None
    assert await core.client.zscore(core.keys.active, spec.id) is None


async def test_running_jobs_do_not_fill_a_lane(core: Core) -> None:
    for _ in range(2):
        await enqueue(core)
    await take(core)

    assert not (await admit(core, make_spec(), max_depth=2)).existing


async def test_the_same_key_and_body_get_the_same_job(core: Core) -> None:
    first = make_spec(idempotency_key="k")
    await admit(core, first)
    size = await core.depth(LANE)

    again = await admit(core, make_spec(idempotency_key="k"))

    assert again == Admitted(first.id, existing=True, position=0)
    assert await core.depth(LANE) == size
    # Found before the lane's depth is checked: the job is admitted already.
    await core.queue_admission.release(first.id, LANE)
    assert (await admit(core, make_spec(idempotency_key="k"), max_depth=1)).existing


async def test_the_same_key_with_another_body_is_a_conflict_and_stores_nothing(core: Core) -> None:
    await admit(core, make_spec(idempotency_key="k"))
    before, spec = await everything(core), make_spec(idempotency_key="k", fingerprint="f2")

    with pytest.raises(IdempotencyConflict) as conflict:
        await admit(core, spec)

    assert conflict.value.param == "Idempotency-Key"
    assert await everything(core) == before
    assert not await core.client.exists(ARQ_JOB + spec.id)


async def test_a_key_belongs_to_its_tenant(core: Core) -> None:
    await admit(core, make_spec(idempotency_key="k"))

    assert not (await admit(core, make_spec(idempotency_key="k", tenant="bob", fingerprint="f2"))).existing


async def test_a_key_is_kept_for_the_retention_and_ends_before_its_job_does(core: Core) -> None:
    await admit(core, make_spec(idempotency_key="k", timeout_s=30.0))

    left_ms = await core.client.pttl(core.keys.idempotency("alice", "k"))
    assert 0 < left_ms <= RETENTION_S * 1000


async def test_many_at_once_with_one_key_become_one_job(core: Core) -> None:
    admissions = await asyncio.gather(*(admit(core, make_spec(idempotency_key="k")) for _ in range(20)))

    assert len({admission.job_id for admission in admissions}) == 1
    assert sum(not admission.existing for admission in admissions) == 1
    assert await core.depth(LANE) == 1


async def test_a_key_is_free_again_once_its_job_was_deleted_and_only_then(core: Core) -> None:
    first, again = make_spec(idempotency_key="k"), make_spec(idempotency_key="k")
    await admit(core, first)

    assert not await core.queue_admission.free_key(again, first.id)
    assert (await admit(core, again)).existing
    await core.queue_admission.record_deletion(first.id, retention_s=RETENTION_S)
    assert await core.queue_admission.free_key(again, first.id)
    assert await admit(core, again) == Admitted(again.id, existing=False, position=1)


async def test_a_key_that_leads_to_another_job_meanwhile_stays_that_jobs(core: Core) -> None:
    first, second = make_spec(idempotency_key="k"), make_spec(idempotency_key="k")
    await admit(core, first)
    await core.queue_admission.record_deletion(first.id, retention_s=RETENTION_S)
    await core.queue_admission.free_key(second, first.id)
    await admit(core, second)

    assert await core.queue_admission.free_key(make_spec(idempotency_key="k"), first.id)

    assert (await admit(core, make_spec(idempotency_key="k"))).job_id == second.id
    assert 0 < await core.client.pttl(core.keys.deleted(first.id)) <= RETENTION_S * 1000


async def test_admitting_the_same_job_again_is_the_same_job(core: Core) -> None:
    spec = make_spec(idempotency_key="k")
    await admit(core, spec)

    await admit(core, spec)

    assert await core.depth(LANE) == 1


# The message.


async def test_arq_itself_can_read_the_message(core: Core) -> None:
    spec = await enqueue(core)
    raw = await core.client.get(ARQ_JOB + spec.id)

    assert raw.startswith(b"{")
    function, args, kwargs, job_try, enqueue_ms = deserialize_job_raw(raw, deserializer=deserialize)
    assert (function, list(args), kwargs, enqueue_ms) == (ARQ_FUNCTION, [spec.id], {}, created_ms(spec.id))
    assert not job_try
    assert deserialize(serialize({"a": [1, None]})) == {"a": [1, None]}


async def test_the_message_never_expires(core: Core) -> None:
    spec = await enqueue(core)

    assert await core.client.ttl(ARQ_JOB + spec.id) == -1


async def test_arq_sees_the_lane_as_one_of_its_queues(core: Core) -> None:
    spec = await enqueue(core)
    arq = ArqRedis(connection_pool=core.client.connection_pool, job_deserializer=deserialize)

    (job,) = await arq.queued_jobs(queue_name=core.keys.lane(LANE))

    assert (job.job_id, job.function, list(job.args)) == (spec.id, ARQ_FUNCTION, [spec.id])


# Take.


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

    assert taken == Taken(LANE, spec.id, int(score))
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


async def test_after_an_outage_jobs_that_ran_before_are_left_to_their_workers_for_a_lease(core: Core) -> None:
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


async def test_when_nothing_is_ready_the_next_deferred_job_is_told(core: Core) -> None:
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


async def test_who_may_ask_no_lane_gets_nothing(core: Core) -> None:
    await enqueue(core)

    assert await core.queue.take([], "w.1", LEASE_S) == Empty()
    assert await wake_ups(core) == 1


async def test_waiting_takes_one_wake_up_and_none_is_no_error(core: Core) -> None:
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


# Renew, release, done.


def claim(taken: Taken, owner: str = "w.1") -> Claim:
    return Claim(taken.job_id, taken.lane, owner, good_until=0.0)


async def test_a_renewed_claim_and_its_place_in_the_lane_last_another_lease(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, lease_s=1.0)

    assert await core.queue.renew([claim(taken)], 60.0) == ["ok"]

    assert await core.client.pttl(ARQ_IN_PROGRESS + taken.job_id) > 30_000
    assert await wait_of(core, "w.2") > 30


async def test_each_claim_is_told_how_it_stands(core: Core) -> None:
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


async def test_only_its_owner_gives_a_job_back(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, "w.1")

    assert not await core.queue.give_back(claim(taken, "w.2"))
    assert await core.client.get(ARQ_IN_PROGRESS + taken.job_id) == b"w.1"
    assert await core.queue.give_back(claim(taken, "w.1"))
    assert not await core.queue.give_back(claim(taken, "w.1"))


async def test_a_job_that_ended_meanwhile_does_not_come_back_by_being_given_back(core: Core) -> None:
    await enqueue(core)
    taken = await take(core, "w.1")
    await core.client.zrem(core.keys.lane(LANE), taken.job_id)

    assert await core.queue.give_back(claim(taken))

    assert await core.depth(LANE) == 0


async def test_of_a_job_that_is_done_the_queue_keeps_nothing(core: Core) -> None:
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


async def test_a_job_that_waits_has_its_place_and_others_have_none(core: Core) -> None:
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


# The reaper's side.


async def check_ms(core: Core, job_id: str) -> int:
    """Return when the reaper should check a job (ms)."""
    return int(await core.client.zscore(core.keys.active, job_id))


async def server_ms(core: Core) -> int:
    seconds, micros = await core.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.mark.parametrize(("first_viewer_timeout_s", "in_s"), [(None, 30), (60.0, 30), (8.0, 8)])
async def test_the_reaper_checks_when_a_job_may_be_over(
    core: Core, first_viewer_timeout_s: float | None, in_s: int
) -> None:
    before = await server_ms(core)
    spec = await enqueue(core, timeout_s=30.0, abandonment=Abandonment(first_viewer_timeout_s=first_viewer_timeout_s))
    after = await server_ms(core)

    assert before + in_s * 1000 <= await check_ms(core, spec.id) <= after + in_s * 1000
    assert (await core.queue.due_for_check(hold_s=5, limit=10))[1] == []


async def test_a_job_that_is_due_for_a_check_is_hidden_from_other_reapers(core: Core) -> None:
    spec = await enqueue(core)
    await core.queue.schedule_check([spec.id], 0)

    now, jobs = await core.queue.due_for_check(hold_s=5, limit=10)

    assert jobs == [spec.id]
    assert now <= await server_ms(core)
    assert await check_ms(core, spec.id) == now + 5_000
    assert (await core.queue.due_for_check(hold_s=5, limit=10))[1] == []


async def test_reapers_share_what_is_due(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(10)]
    await core.queue.schedule_check([spec.id for spec in specs], 0)

    shares = await asyncio.gather(*(core.queue.due_for_check(hold_s=60, limit=3) for _ in range(5)))

    seen = [job for _, share in shares for job in share]
    assert sorted(seen) == sorted(spec.id for spec in specs)
    assert max(len(share) for _, share in shares) == 3


async def test_a_look_can_be_asked_for_earlier_but_not_put_off_and_not_for_a_job_that_is_over(core: Core) -> None:
    spec = await enqueue(core, timeout_s=30.0)
    planned = await check_ms(core, spec.id)

    await core.queue.schedule_check([spec.id], 60.0)
    assert await check_ms(core, spec.id) == planned
    await core.queue.schedule_check([spec.id, unknown := fresh_job_id()], 2.0)
    assert await check_ms(core, spec.id) < planned
    assert await core.client.zscore(core.keys.active, unknown) is None
    await core.queue.schedule_check([], 1.0)


async def test_what_the_queue_still_has_is_only_looked_at_later(core: Core) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    await take(core, "w.1")
    score = await core.client.zscore(core.keys.lane(LANE), spec.id)
    await core.queue.schedule_check([spec.id], 0)
    now, _ = await core.queue.due_for_check(hold_s=5, limit=10)

    assert not await core.queue.restore((await core.job(spec.id)).place, 25.0, held_until_ms=now + 5_000)

    assert await core.client.zscore(core.keys.lane(LANE), spec.id) == score
    assert now + 25_000 <= await check_ms(core, spec.id) <= await server_ms(core) + 25_000


async def test_a_look_that_was_asked_for_while_the_reaper_held_the_job_is_not_put_off(core: Core) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    await core.queue.schedule_check([spec.id], 0)
    now, _ = await core.queue.due_for_check(hold_s=5, limit=10)
    await core.queue.schedule_check([spec.id], 2.0)
    asked = await check_ms(core, spec.id)

    await core.queue.restore((await core.job(spec.id)).place, 25.0, held_until_ms=now + 5_000)
    await core.queue.restore((await core.job(spec.id)).place, 25.0)

    assert await check_ms(core, spec.id) == asked


@pytest.mark.parametrize("lost", ["lane", "message", "all"])
async def test_a_job_that_the_queue_lost_is_put_back(core: Core, lost: str) -> None:
    spec = await enqueue(core)
    await core.store.create(spec, 1)
    if lost in ("lane", "all"):
        await core.client.zrem(core.keys.lane(LANE), spec.id)
    if lost in ("message", "all"):
        await core.client.delete(ARQ_JOB + spec.id)
    await core.client.delete(core.keys.wake_ups(LANE))

    assert await core.queue.restore((await core.job(spec.id)).place, 25.0)

    assert await wake_ups(core) == 1
    assert (await take(core)).job_id == spec.id
    raw = await core.client.get(ARQ_JOB + spec.id)
    assert list(deserialize_job_raw(raw, deserializer=deserialize)[1]) == [spec.id]
    assert await check_ms(core, spec.id) > 0


# Listing.


async def listing(core: Core, limit: int) -> list[str]:
    """Return all of alice's jobs, page by page."""
    found: list[str] = []
    while page := await core.tenant_lists.listed("alice", after=found[-1] if found else None, limit=limit):
        assert len(page) <= limit
        found += page
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 100])
async def test_a_tenants_jobs_are_listed_newest_first_page_by_page(core: Core, limit: int) -> None:
    specs = [await enqueue(core) for _ in range(7)]
    await enqueue(core, tenant="bob")

    assert await listing(core, limit) == sorted((spec.id for spec in specs), reverse=True)


async def test_paging_goes_on_where_it_was_when_the_last_one_shown_is_dropped(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(7)]
    ids = sorted((spec.id for spec in specs), reverse=True)
    for place in range(7):
        await core.tenant_lists.unlist("alice", [ids[place]])

        assert await core.tenant_lists.listed("alice", after=ids[place], limit=2) == ids[place + 1 : place + 3]


async def test_jobs_of_one_millisecond_are_each_listed_once(core: Core) -> None:
    base = make_spec()
    ids = [new_job_id(created_ms(base.id), n) for n in range(6)]
    for job_id in ids:
        await admit(core, replace(base, id=job_id))

    assert await listing(core, 2) == ids[::-1]
    await core.tenant_lists.unlist("alice", [ids[3]])
    assert await core.tenant_lists.listed("alice", after=ids[3], limit=9) == ids[2::-1]


async def test_the_list_goes_by_the_ids_whenever_the_jobs_came_in(core: Core) -> None:
    base = make_spec()
    ids = [new_job_id(created_ms(base.id) - ago_ms, 1) for ago_ms in (30, 0, 50, 10, 40, 20)]
    for job_id in ids:
        await admit(core, replace(base, id=job_id))
        await next_millisecond(core)

    assert await listing(core, 2) == sorted(ids, reverse=True)


async def next_millisecond(core: Core) -> None:
    now = await server_ms(core)
    while await server_ms(core) == now:
        pass


async def test_a_tenant_without_jobs_has_an_empty_list(core: Core) -> None:
    assert await core.tenant_lists.listed("nobody", after=None, limit=5) == []
    assert await core.tenant_lists.listed("nobody", after=fresh_job_id(), limit=5) == []
    await core.tenant_lists.unlist("nobody", [])


async def test_jobs_that_can_no_longer_be_read_leave_the_list_by_themselves(core: Core) -> None:
    hour_ms, longest_ms = 3_600_000, int(LONGEST_TIMEOUT_S * 1000)
    young = make_spec(timeout_s=30.0)
    # Another job of the tenant may have been given the longest time-out there is.
    kept = replace(young, id=new_job_id(created_ms(young.id) - longest_ms, 1))
    gone = replace(young, id=new_job_id(created_ms(young.id) - longest_ms - 2 * hour_ms, 1))
    for spec in (gone, kept, young):
        await admit(core, spec)

    assert await core.tenant_lists.listed("alice", after=None, limit=9) == [young.id, kept.id]


async def test_a_server_that_is_there_answers(core: Core) -> None:
    await core.queue.ping()


# The backlog.


async def test_an_empty_lane_has_no_backlog(core: Core) -> None:
    assert await core.queue.backlog([LANE]) == [Backlog(LANE, 0, 0.0)]


async def test_a_backlog_is_what_is_due_and_its_age_that_of_the_first(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(3)]
    await move(core, specs[1].id, -60_000)
    (backlog,) = await core.queue.backlog([LANE])
    assert backlog.jobs == 3
    assert 60.0 <= backlog.oldest_s < 60.0 + TIMEOUT_S

    assert (await take(core)).job_id == specs[1].id
    (backlog,) = await core.queue.backlog([LANE])
    assert backlog.jobs == 2
    assert backlog.oldest_s < TIMEOUT_S


async def test_what_is_admitted_deferred_or_running_does_not_wait(core: Core) -> None:
    await admit(core, make_spec())
    deferred = await enqueue(core)
    await move(core, deferred.id, 60_000)
    await enqueue(core)
    await take(core)

    assert await core.queue.backlog([LANE]) == [Backlog(LANE, 0, 0.0)]


async def test_each_lane_has_its_own_backlog(core: Core) -> None:
    await enqueue(core, lane="fast")
    await enqueue(core, lane="slow")
    await enqueue(core, lane="slow")

    found = await core.queue.backlog(["slow", "none", "fast"])
    assert [(each.lane, each.jobs) for each in found] == [("slow", 2), ("none", 0), ("fast", 1)]
