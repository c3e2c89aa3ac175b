"""Test the admission of jobs to their lanes on a real server: depth, keys, release, and the message that arq reads."""

import asyncio

import pytest
from arq.connections import ArqRedis
from arq.jobs import deserialize_job_raw

from shared.model.errors import IdempotencyConflict, QueueFull
from shared.model.jobs import created_ms
from shared.store.keys import ARQ_JOB
from shared.store.queue_admission import Admitted
from shared.store.wire.arq_messages import ARQ_FUNCTION, deserialize, serialize
from tests.contract.queues import LANE, admit, enqueue, move, take, take_when_due, wait_of, wake_ups
from tests.support.core import RETENTION_S, Core, make_spec


async def everything(core: Core) -> set[bytes]:
    """Return the names of all keys under this test's prefix."""
    return set(await core.client.keys(f"{core.keys.prefix}:*"))


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


async def test_a_waiting_worker_takes_a_released_job(core: Core) -> None:
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


async def test_an_admitted_job_gets_its_position_among_the_waiting_jobs(core: Core) -> None:
    await enqueue(core)
    await enqueue(core)
    await take(core)

    assert (await admit(core, make_spec())).position == 2
    assert (await admit(core, make_spec(lane="other"))).position == 1


async def test_a_full_lane_admits_no_job_and_stores_nothing(core: Core) -> None:
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
