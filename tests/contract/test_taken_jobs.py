"""Test that `take` reads the job that it claims: arq's message and count, and, on one server, record and request."""

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from shared.model.errors import BrokenJob, JobNotFound
from shared.model.jobs import JobSpec
from shared.store.client import REDIS_FAULTS
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.queue import Queue
from shared.store.wire.answers import ArqEntry, Taken
from shared.store.wire.arq_messages import message_of, serialize
from tests.contract.queues import LANE, LEASE_S, enqueue, take, take_when_due
from tests.contract.test_arq_adapter import Handler, adapter_of
from tests.support.core import Core

MOST_BYTES = 65_536


async def stored(core: Core, **changes: object) -> JobSpec:
    """Submit a job with its record."""
    spec = await enqueue(core, **changes)
    await core.store.create(spec, 1)
    return spec


async def take_on_two_servers(core: Core) -> Taken:
    found = await Queue(core.client, core.keys).take([LANE], "w.1", LEASE_S)
    assert isinstance(found, Taken), found
    return found


async def keys_left(core: Core, job_id: str) -> dict[str, object]:
    """Return the keys of a job that `take` and arq write, and when they expire, to ten seconds."""
    left: dict[str, object] = {}
    for name in (ARQ_JOB + job_id, ARQ_IN_PROGRESS + job_id, ARQ_RETRY + job_id):
        left[name.removesuffix(job_id)] = (await core.client.get(name), round(await core.client.ttl(name), -1))
    record = await core.client.hgetall(core.keys.job(job_id).record)  # type: ignore[misc]
    return left | {"record": {name: value for name, value in record.items() if name not in (b"created", b"deadline")}}


async def test_the_answer_has_message_and_count_and_on_one_server_record_and_request(core: Core) -> None:
    spec = await stored(core)

    taken = await take(core)

    assert taken.entry == ArqEntry(serialize(message_of(spec.id)), 1)
    assert taken.stored is not None
    assert core.store.read_taken(spec.id, taken.stored) == await core.store.load_with_request(spec.id)


async def test_with_two_servers_the_answer_has_no_record(core: Core) -> None:
    spec = await stored(core)

    taken = await take_on_two_servers(core)

    assert (taken.entry, taken.stored) == (ArqEntry(serialize(message_of(spec.id)), 1), None)


async def test_both_ways_and_arqs_own_leave_the_same_keys(core: Core) -> None:
    left: list[dict[str, object]] = []
    for way in (take, take_on_two_servers):
        spec, handler = await stored(core), Handler()
        taken = await way(core)
        await adapter_of(core, handler).run(taken)
        assert handler.calls == [("run", spec.id)]
        left.append(await keys_left(core, spec.id))
        # The transaction of arq, which a job without an entry still makes.
        await core.client.delete(ARQ_RETRY + spec.id)
        await adapter_of(core, handler).run(replace(taken, entry=None))
        left.append(await keys_left(core, spec.id))
        await core.queue.done(spec.id, LANE)
        assert await core.client.exists(ARQ_JOB + spec.id, ARQ_IN_PROGRESS + spec.id, ARQ_RETRY + spec.id) == 0

    assert left[0][ARQ_RETRY] == (b"1", 88_400)
    names = [{name: value for name, value in each.items() if name not in (ARQ_JOB, "record")} for each in left]
    assert names == [names[0]] * 4


async def test_the_second_take_of_a_job_counts_it_again(core: Core) -> None:
    await stored(core)
    first = await take(core, lease_s=0.05)
    second = await take_when_due(core, "w.2")

    assert [each.entry.tries if each.entry else 0 for each in (first, second)] == [1, 2]


async def test_a_job_without_a_record_is_taken_and_has_none(core: Core) -> None:
    spec = await enqueue(core)
    await core.client.set(core.keys.job(spec.id).request, b"{}")

    taken = await take(core)

    assert taken.stored is not None
    with pytest.raises(JobNotFound):
        core.store.read_taken(spec.id, taken.stored)


async def test_a_request_that_is_no_object_is_a_broken_job(core: Core) -> None:
    spec = await stored(core, request=b"[]")

    taken = await take(core)

    assert taken.stored is not None
    with pytest.raises(BrokenJob, match="not an object"):
        core.store.read_taken(spec.id, taken.stored)


@pytest.mark.parametrize(("size", "read"), [(MOST_BYTES, True), (MOST_BYTES + 1, False)])
async def test_a_request_that_is_large_is_not_in_the_answer(core: Core, size: int, read: bool) -> None:
    await stored(core, request=b'{"a":"' + b"x" * (size - 8) + b'"}')

    assert ((await take(core)).stored is not None) is read


async def test_a_lost_request_is_left_to_the_run_to_find(core: Core) -> None:
    spec = await stored(core)
    await core.client.delete(core.keys.job(spec.id).request)

    assert (await take(core)).stored is None
    with pytest.raises(BrokenJob):
        await core.store.load_with_request(spec.id)


async def test_keys_of_another_type_keep_no_job_from_being_taken(core: Core) -> None:
    broken, following = await stored(core), await stored(core)
    await core.client.lpush(ARQ_RETRY + broken.id, "no number")  # type: ignore[misc]
    await core.client.delete(core.keys.job(following.id).record)
    await core.client.set(core.keys.job(following.id).record, "no hash")

    first, second = await take(core), await take(core)

    assert (first.job_id, first.entry, first.stored) == (broken.id, None, None)
    with pytest.raises(REDIS_FAULTS):
        await adapter_of(core, Handler()).run(first)
    assert (second.job_id, second.stored) == (following.id, None)
    assert second.entry == ArqEntry(serialize(message_of(following.id)), 1)
    with pytest.raises(ResponseError):
        await core.store.load_with_request(following.id)


async def test_an_adapter_asks_nothing_of_redis_for_a_job_with_an_entry(core: Core) -> None:
    handler = Handler()

    await adapter_of(core, handler).run(Taken(LANE, "job_x", 0, ArqEntry(b"garbage", 1)))
    await adapter_of(core, handler).run(Taken(LANE, "job_x", 0, ArqEntry(None, 1)))

    assert handler.calls == [("unreadable", "job_x")] * 2
    assert await core.client.exists(ARQ_RETRY + "job_x") == 0
