"""Test job records: created, read, cancelled and forgotten, on the real server."""

import hashlib
import json

import pytest

from shared.model.errors import Abandoned, BrokenJob, Cancelled, JobNotFound
from shared.model.events import EventId, EventType
from shared.model.jobs import Job
from shared.model.lifecycle import State
from shared.store.jobs import EMPTY_SHA256
from shared.store.wire.answers import Written
from tests.contract.stores import expiries, set_field
from tests.support.core import Core, frames_of, fresh_job_id, make_spec


async def test_a_job_that_has_ended_is_deleted_with_all_its_keys(core: Core) -> None:
    execution = await core.running()
    assert await core.finish(execution, State.COMPLETED) == Written()

    assert await core.store.forget(execution.job_id) == "deleted"

    assert await expiries(core, execution.job_id) == [-2, -2, -2, -2]
    assert await core.store.forget(execution.job_id) == "missing"


async def test_a_job_that_has_not_ended_is_hidden_and_goes_after_its_end(core: Core) -> None:
    execution = await core.running()

    assert await core.store.forget(execution.job_id) == "hidden"

    assert (await core.job(execution.job_id)).hidden
    assert await expiries(core, execution.job_id) == [-1, -1, -1, -2]
    assert await core.finish(execution, State.COMPLETED) == Written()
    record, request, log, result = await expiries(core, execution.job_id)
    assert record == request == log > 0
    assert result == -2


async def test_fields_kept_by_a_dialect_are_not_sent_to_the_provider(core: Core) -> None:
    job_id = await core.queued(request=b'{"model":"m","tailrace":{"store":true}}')

    assert await core.store.request(job_id) == {"model": "m"}
    assert await core.store.load_with_request(job_id) == (await core.job(job_id), {"model": "m"})
    assert await core.store.load_with_kept(job_id) == (await core.job(job_id), {"model": "m"}, {"store": True})
    assert (await core.store.load_with_kept(await core.queued()))[2] == {}


async def test_a_created_job_has_a_record_a_request_and_its_first_event(core: Core) -> None:
    spec = make_spec(metadata={"who": "Zoë\u2028"}, timeout_s=12.5, request=b'{"model":"a-model"}')

    created = await core.store.create(spec, 4)

    job = await core.job(spec.id)
    assert created == (job, True)
    assert (job.status, job.last, job.attempts) == (State.QUEUED, EventId(0, 1), 0)
    assert (job.kind, job.tenant, job.lane, job.model) == (spec.kind, spec.tenant, spec.lane, spec.model)
    assert job.metadata == {"who": "Zoë\u2028"}
    assert job.deadline_ms - job.created_ms == 12_500
    assert (job.started_ms, job.ended_ms, job.outcome) == (0, 0, {})
    assert await core.store.request(spec.id) == {"model": "a-model"}
    (queued,) = await core.events(spec.id)
    assert (queued.type, queued.id) == (EventType.QUEUED, EventId(0, 1))
    assert queued.json() == {"job": spec.id, "lane": "default", "position": 4}


async def test_metadata_is_kept_and_half_a_character_is_replaced(core: Core) -> None:
    job_id = await core.queued(metadata={"a": "\ud83d", "b": "}"})

    raw = await core.client.hget(core.keys.job(job_id).record, "metadata")  # type: ignore[misc]
    assert json.loads(raw) == {"a": "\ufffd", "b": "}"} == (await core.job(job_id)).metadata


async def test_a_job_that_is_not_abandonable_has_no_time_to_be_given_up(core: Core) -> None:
    assert (await core.job(await core.queued())).abandon_ms == 0


async def test_creating_a_job_again_changes_nothing(core: Core) -> None:
    execution = await core.running()

    again = await core.store.create(make_spec(id=execution.job_id, model="another"), 1)

    assert again == (await core.job(execution.job_id), False)
    assert again.job.model == "a-model"
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started"]


async def test_a_job_that_has_not_ended_never_expires(core: Core) -> None:
    execution = await core.running()

    assert await expiries(core, execution.job_id) == [-1, -1, -1, -2]


async def test_an_unknown_job_is_not_found(core: Core) -> None:
    with pytest.raises(JobNotFound):
        await core.store.load(fresh_job_id())


async def test_a_record_of_a_newer_version_is_broken(core: Core) -> None:
    job_id = await core.queued()
    await set_field(core, job_id, v=2)

    with pytest.raises(BrokenJob, match="version '2'"):
        await core.store.load(job_id)


async def test_many_jobs_are_read_together_with_missing_and_broken_ones(core: Core) -> None:
    first, gone, broken, last = await core.queued(), fresh_job_id(), await core.queued(), await core.queued()
    await set_field(core, broken, status="paused")

    jobs = await core.store.load_many([first, gone, broken, last])

    assert isinstance(jobs[0], Job)
    assert jobs[1] is None
    assert isinstance(jobs[2], BrokenJob)
    assert isinstance(jobs[3], Job)
    assert (jobs[0].id, jobs[3].id) == (first, last)
    assert await core.store.load_many([]) == []


@pytest.mark.parametrize("raw", [None, b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"'])
async def test_a_request_that_can_not_be_read_is_a_broken_job(core: Core, raw: bytes | None) -> None:
    job_id = await core.queued()
    key = core.keys.job(job_id).request
    await (core.client.delete(key) if raw is None else core.client.set(key, raw))

    with pytest.raises(BrokenJob):
        await core.store.request(job_id)


async def test_a_queued_job_is_cancelled_at_once(core: Core) -> None:
    job_id = await core.queued()
    async with core.listening(core.keys.channel(job_id)) as listener:
        assert await core.cancel(job_id) == "cancelled"
        received = await listener.received()

    job = await core.job(job_id)
    assert (job.status, job.last) == (State.CANCELLED, EventId(0, 2))
    assert job.ended_ms >= job.created_ms
    assert await core.story(job_id) == ["0-1 queued", "0-2 cancelled"]
    cancelled = (await core.events(job_id))[-1].json()
    assert cancelled == job.outcome
    assert cancelled["error"]["code"] == "cancelled"
    assert (cancelled["usage"], cancelled["events"], cancelled["sha256"]) == (None, 2, EMPTY_SHA256)
    assert received == [(await core.log_bytes(job_id)).split(b"\n\n", 1)[1]]
    *kept, _ = await expiries(core, job_id)
    assert len(set(kept)) == 1
    assert kept[0] > job.ended_ms


async def test_nothing_survives_of_nothing() -> None:
    assert hashlib.sha256().hexdigest() == EMPTY_SHA256


async def test_a_queued_job_that_was_taken_over_is_cancelled_at_once_under_the_new_epoch(core: Core) -> None:
    job_id = await core.queued()
    execution = await core.take_over(job_id)

    assert await core.cancel(job_id) == "cancelled"

    assert await core.story(job_id) == ["0-1 queued", "1-1 cancelled"]
    assert (await core.job(job_id)).outcome["events"] == 2
    assert await core.finish(execution, State.EXPIRED, seq=1) == "ended"


async def test_each_cancellation_of_a_running_job_is_sent_to_its_worker(core: Core) -> None:
    execution = await core.running()
    async with core.listening(core.keys.control) as listener:
        assert await core.cancel(execution.job_id) == "cancelling"
        assert await core.cancel(execution.job_id) == "cancelling"
        orders = await listener.received()

    assert orders == [execution.job_id.encode()] * 2
    assert (await core.job(execution.job_id)).status is State.CANCELLING
    assert await core.append(frames_of(execution, 2, "late")) == ["cancelled"]
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started"]


async def test_the_first_cancellation_sets_the_reason_and_the_time(core: Core) -> None:
    execution = await core.running()
    assert await core.store.cancel_state(execution.job_id) == ("cancelled", 0)

    await core.store.cancel(execution.job_id, Abandoned("Everybody left."))
    code, at = await core.store.cancel_state(execution.job_id)
    await core.cancel(execution.job_id)

    assert code == "abandoned"
    assert at >= (await core.job(execution.job_id)).started_ms
    assert await core.store.cancel_state(execution.job_id) == (code, at)


async def test_cancelling_an_ended_or_missing_job_sends_no_message(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED)
    async with core.listening(core.keys.control) as listener:
        assert await core.cancel(execution.job_id) == "ended"
        assert await core.cancel(fresh_job_id()) == "missing"
        assert await listener.received() == []

    assert (await core.job(execution.job_id)).status is State.COMPLETED


async def test_the_error_of_an_abandoned_queued_job_says_that_it_had_no_reader(core: Core) -> None:
    job_id = await core.queued()

    await core.store.cancel(job_id, Cancelled.because("abandoned"))

    assert (await core.job(job_id)).outcome["error"] == {
        "type": "job_error",
        "code": "abandoned",
        "message": "The job had no reader, so it was cancelled.",
        "retryable": False,
    }
