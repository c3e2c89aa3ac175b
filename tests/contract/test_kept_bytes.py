"""Test the count of a tenant's stored bytes: exact, bounded for new jobs, and released by every end."""

import asyncio
from typing import Any

import pytest

from shared.model.errors import TooManyBytes
from shared.model.events import EventId, EventType, encode_frame
from shared.model.jobs import Embedded
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import TenantBounds
from shared.store.conversations import Conversations
from shared.store.executions import Execution
from shared.store.jobs import Created, JobRecords
from shared.store.results import Results
from shared.store.wire.answers import AppendAnswer, Written
from tests.support.core import RETENTION_S, Core, frames_of, make_spec

JOB, STEP, KIB = 6144, 16_384, 1024
BIG = b'{"model":"a-model","messages":[]}'.ljust(100 * KIB)


async def create(core: Core, most: int | None = None, *, size: int = 10, **changes: Any) -> str:
    """Create a job with a request of so many bytes, under a bound."""
    spec = make_spec(request=b"x" * size, **changes)
    await core.store.create(spec, 1, bounds=TenantBounds(bytes=most))
    return spec.id


async def counted(core: Core, tenant: str = "alice") -> int:
    """Return the tenant's sum, which must be that of all that it keeps."""
    base = core.keys.kept_bytes(tenant)
    fields = await core.client.hgetall(f"{base}:sizes")  # type: ignore[misc]
    total = int(fields.pop(b"sum", 0))
    fields.pop(b"most", None)
    assert total == sum(map(int, fields.values()))
    assert set(fields) == set(await core.client.zrange(f"{base}:until", 0, -1))
    return total


async def kept(core: Core, job_id: str) -> int:
    """Count the bytes of a job's request, log and result, and of its outcome and metadata."""
    keys = core.keys.job(job_id)
    log = len(await core.log_bytes(job_id))
    said = sum(len(each or b"") for each in await core.client.hmget(keys.record, ["outcome", "metadata"]))  # type: ignore[misc]
    return int(await core.client.strlen(keys.request) + await core.client.strlen(keys.result)) + log + said


async def expire(core: Core, job_id: str, *, tenant: str = "alice") -> None:
    """Let the job's time be over, in its keys and in its tenant's count."""
    keys = core.keys.job(job_id)
    await core.client.delete(keys.record, keys.log, keys.request, keys.result)
    await core.client.zadd(f"{core.keys.kept_bytes(tenant)}:until", {keys.record: 1}, xx=True)


# The bound.


async def test_a_job_too_many_is_refused_by_name_and_stores_nothing(core: Core) -> None:
    metrics, bounds = Metrics(), TenantBounds(bytes=20 * STEP)
    store = JobRecords(core.client, core.keys, retention_s=RETENTION_S, metrics=metrics)
    await create(core, size=8 * STEP)
    before = set(await core.client.keys(f"{core.keys.prefix}:*"))
    with pytest.raises(TooManyBytes, match=r"327680 bytes \(max_bytes_per_tenant\)"):
        await store.create(make_spec(request=b"x" * 9 * STEP), 1, bounds=bounds)

    assert set(await core.client.keys(f"{core.keys.prefix}:*")) == before
    assert metrics.refused.of("bytes").value == 1
    assert await counted(core) == 9 * STEP
    assert (await store.create(make_spec(request=b"x" * 9 * STEP, tenant="bob"), 1, bounds=bounds)).new


async def test_exactly_the_allowed_number_of_concurrent_jobs_is_created(core: Core) -> None:
    """Fill the bound: each job counts with one step; new ones may fill nine tenths of ten."""
    bounds = TenantBounds(bytes=10 * STEP)
    answers = await asyncio.gather(
        *(core.store.create(make_spec(), 1, bounds=bounds) for _ in range(25)), return_exceptions=True
    )

    assert sum(isinstance(each, Created) for each in answers) == 9
    assert sum(isinstance(each, TooManyBytes) for each in answers) == 16
    assert await counted(core) == 9 * STEP


async def test_the_same_job_again_is_counted_once(core: Core) -> None:
    spec = make_spec()
    for new in (True, False):
        assert (await core.store.create(spec, 1, bounds=TenantBounds(bytes=2 * STEP))).new is new

    assert await counted(core) == STEP


# The bytes of a job.


async def test_a_job_that_has_not_ended_counts_with_the_next_whole_step(core: Core) -> None:
    execution = await core.running()
    seq, steps = execution.seq + 1, []
    for _ in range(4):
        assert await core.append(frames_of(execution, seq, "x" * 9_000)) == [Written()]
        seq += 1
        steps.append(await counted(core) // STEP)
        assert await counted(core) > await kept(core, execution.job_id)

    assert steps == [1, 2, 3, 3]


@pytest.mark.parametrize("status", [State.COMPLETED, State.FAILED])
async def test_an_ended_job_counts_with_its_kept_bytes(core: Core, status: State) -> None:
    execution = await core.running(request=BIG)
    await core.append(frames_of(execution, execution.seq + 1, "x" * 50_000))

    assert await core.finish(execution, status) == Written()

    assert JOB + await kept(core, execution.job_id) == await counted(core)


async def test_a_result_counts(core: Core) -> None:
    execution = await core.running(kind="embeddings")
    await keep(core, execution, 100_000)
    assert await counted(core) == 7 * STEP

    await core.finish(execution, State.COMPLETED, seq=execution.seq + 2)

    assert await counted(core) > 100_000


async def keep(core: Core, execution: Execution, size: int) -> AppendAnswer:
    """Keep a whole result of so many bytes."""
    embedded = Embedded("m", 1, 1, size // 4, 1, "provider", "")
    frame = encode_frame(EventType.PROGRESS, b"{}", EventId(execution.epoch, execution.seq + 1))
    results = Results(core.client, core.keys)
    return await results.keep(
        execution, seq=execution.seq + 1, frame=frame, place=0, part=b"x" * size, embedded=embedded
    )


async def test_a_write_over_the_tenants_bound_reports_a_full_tenant(core: Core) -> None:
    for kind in ("chat", "embeddings"):
        job_id = await create(core, 4 * STEP, kind=kind, tenant=kind)
        execution = await core.begin(job_id)
        if kind == "chat":
            said = await core.append(frames_of(execution, execution.seq + 1, "x" * 40_000))
            said += await core.append(frames_of(execution, execution.seq + 2, "x" * 40_000))
            assert said == [Written(), Written(tenant_full=True)]
        else:
            assert await keep(core, execution, 80_000) == Written(tenant_full=True)


# Its release.


async def ended(core: Core, **changes: Any) -> str:
    execution = await core.running(**changes)
    await core.finish(execution, State.COMPLETED)
    return execution.job_id


async def test_expired_jobs_make_room(core: Core) -> None:
    old = await ended(core, request=BIG)
    with pytest.raises(TooManyBytes):
        await create(core, 8 * STEP, size=3 * STEP)

    await expire(core, old)

    await create(core, 8 * STEP, size=3 * STEP)
    assert await counted(core) == 4 * STEP


async def test_hundreds_of_jobs_that_have_expired_make_room_at_once(core: Core) -> None:
    ids = [await ended(core) for _ in range(300)]
    for job_id in ids:
        await expire(core, job_id)

    await create(core, 4 * STEP)

    assert await counted(core) == STEP


async def test_a_deleted_job_makes_room_at_once(core: Core) -> None:
    job_id = await ended(core)
    assert await counted(core) > 0

    assert await core.store.forget(job_id) == "deleted"

    assert await counted(core) == 0
    assert not await core.client.keys(f"{core.keys.kept_bytes('alice')}*")


async def test_a_job_that_outlives_its_expected_time_is_still_counted(core: Core) -> None:
    execution = await core.running()
    await core.client.zadd(
        f"{core.keys.kept_bytes('alice')}:until", {core.keys.job(execution.job_id).record: 1}, xx=True
    )

    await create(core)

    assert await counted(core) == 2 * STEP
    record = core.keys.job(execution.job_id).record
    again_at = await core.client.zscore(f"{core.keys.kept_bytes('alice')}:until", record)
    assert again_at is not None and again_at > await core.store.time_ms() + 1_000_000  # not with each new job


async def test_a_cancelled_job_counts_with_its_kept_bytes(core: Core) -> None:
    job_id = await core.queued(request=BIG)
    assert await core.cancel(job_id) == "cancelled"

    assert JOB + await kept(core, job_id) == await counted(core)


@pytest.mark.parametrize("status", [State.CANCELLED, State.EXPIRED, State.FAILED, State.COMPLETED])
async def test_the_request_of_a_job_without_an_answer_is_shortened(core: Core, status: State) -> None:
    brief = b'{"model":"a-model"}'
    execution = await core.running(request=BIG, brief=brief)
    if status is State.CANCELLED:
        assert await core.cancel(execution.job_id) == "cancelling"
    assert await core.finish(execution, status) == Written()

    key = core.keys.job(execution.job_id).request
    assert await core.client.get(key) == (brief if status in (State.CANCELLED, State.EXPIRED) else BIG)
    assert await core.client.pttl(key) > 0
    assert JOB + await kept(core, execution.job_id) == await counted(core)


async def test_the_request_of_a_job_that_never_began_is_shortened_when_it_is_cancelled(core: Core) -> None:
    job_id = await core.queued(request=BIG, brief=b'{"model":"a-model"}')
    assert await core.cancel(job_id) == "cancelled"

    assert await core.store.request(job_id) == {"model": "a-model"}
    assert await core.client.pttl(core.keys.job(job_id).request) > 0
    assert await counted(core) < JOB + KIB


async def test_a_dismissed_dead_letter_expires_like_other_jobs(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.FAILED)
    await core.dead_letters.add(execution.job_id)
    until = await last(core)

    assert await core.dead_letters.dismiss(execution.job_id)

    assert await last(core) < until - RETENTION_S * 900


async def last(core: Core) -> float:
    """Return when the last of a tenant's bytes expire (ms)."""
    ((_, at),) = await core.client.zrange(f"{core.keys.kept_bytes('alice')}:until", -1, -1, withscores=True)
    return float(at)


async def test_a_tenants_count_lives_as_long_as_its_jobs(core: Core) -> None:
    await ended(core)
    base = core.keys.kept_bytes("alice")
    for key in (f"{base}:sizes", f"{base}:until"):
        assert await core.client.pttl(key) > RETENTION_S * 1000


async def test_a_job_of_a_version_that_counted_nothing_continues(core: Core) -> None:
    execution = await core.running()
    record = core.keys.job(execution.job_id).record
    await core.client.hdel(record, "base_of_bytes", "bytes")  # type: ignore[misc]

    assert await core.append(frames_of(execution, execution.seq + 1, "x" * 40_000)) == [Written()]
    assert await core.finish(execution, State.COMPLETED) == Written()
    assert await core.store.forget(execution.job_id) == "deleted"


# Conversations.


async def test_a_conversation_counts_until_it_expires(core: Core) -> None:
    chats = Conversations(core.client, core.keys, retention_s=RETENTION_S)
    await chats.begin("alice", "c", "one", last=None, whole=True, timeout_s=1.0)
    begun = await counted(core)
    await chats.commit("alice", "c", "one", [("m" * 5_000, 1)], timeout_s=1.0)

    assert 0 < begun < 1_000 and await counted(core) > begun + 4_000

    await core.client.delete(core.keys.conversation("alice", "c"))
    await core.client.zadd(f"{core.keys.kept_bytes('alice')}:until", {core.keys.conversation("alice", "c"): 1}, xx=True)
    await create(core)
    assert await counted(core) == STEP


async def test_a_conversation_that_came_to_nothing_counts_no_longer(core: Core) -> None:
    chats = Conversations(core.client, core.keys, retention_s=RETENTION_S)
    await chats.begin("alice", "c", "one", last=None, whole=True, timeout_s=1.0)

    await chats.stop("alice", "c", "one")

    assert not await core.client.keys(f"{core.keys.prefix}:*alice*")
