"""Test job records: created, begun, ended, cancelled and read, on the real server."""

import hashlib
import json

import pytest

from shared.model.errors import Abandoned, BrokenJob, Cancelled, Drained, JobNotFound
from shared.model.events import EventId, EventType, encode_data, encode_frame, is_terminal
from shared.model.jobs import Abandonment, Job, JobSpec, OnDisconnect
from shared.model.lifecycle import State
from shared.store.answers import Behind, FinishAnswer, Written
from shared.store.executions import Execution, Executions, Succession
from shared.store.function_library import LIBRARY
from shared.store.jobs import EMPTY_SHA256, Store
from shared.telemetry.metrics import Cells, Count, Metrics
from tests.support.core import RETENTION_S, WORKER, Core, frames_of, fresh_job_id, make_spec

DRAINED = Drained("The worker was stopped.")


async def refused(core: Core, job_id: str, *, epoch: int = 0, after: Succession | None = None) -> object:
    """Return the answer of `begin` for a job that may not begin."""
    return await core.executions.begin(job_id, "another", epoch=epoch, model="m", provider="p", after=after)


async def set_field(core: Core, job_id: str, **fields: str | int) -> None:
    await core.client.hset(core.keys.job(job_id).record, mapping=fields)  # type: ignore[misc]


async def expiries(core: Core, spec_or_id: JobSpec | str) -> list[int]:
    """Return when each of the job's keys expires (ms), -1 never, -2 not there."""
    keys = core.keys.job(spec_or_id if isinstance(spec_or_id, str) else spec_or_id.id)
    names = (keys.record, keys.request, keys.log, keys.result)
    return [int(await core.client.execute_command("PEXPIRETIME", name)) for name in names]


# Forget.


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


async def test_what_a_dialect_keeps_is_not_the_providers(core: Core) -> None:
    job_id = await core.queued(request=b'{"model":"m","tailrace":{"store":true}}')

    assert await core.store.request(job_id) == {"model": "m"}
    assert await core.store.load_with_request(job_id) == (await core.job(job_id), {"model": "m"})
    assert await core.store.load_with_kept(job_id) == (await core.job(job_id), {"model": "m"}, {"store": True})
    assert (await core.store.load_with_kept(await core.queued()))[2] == {}


# Create, load.


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


async def test_a_job_that_is_not_to_be_abandoned_says_so(core: Core) -> None:
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


async def test_many_jobs_are_read_together_gone_and_broken_ones_among_them(core: Core) -> None:
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


# Begin.


async def test_the_first_execution_starts_at_its_epochs_first_event(core: Core) -> None:
    job_id = await core.queued(timeout_s=30.0)

    execution = await core.begin(job_id, "w.1")

    assert (execution.epoch, execution.owner, execution.seq, execution.base, execution.attempt) == (1, "w.1", 1, 1, 1)
    assert 0 < execution.left_ms <= 30_000
    job = await core.job(job_id)
    assert (job.status, job.last, job.attempts) == (State.RUNNING, EventId(1, 1), 1)
    assert job.started_ms >= job.created_ms
    started = (await core.events(job_id))[-1]
    assert (started.type, started.id) == (EventType.STARTED, EventId(1, 1))
    assert started.json() == {"attempt": 1, "model": "a-model", "provider": "a-provider", "resumed_from": None}


async def test_names_with_any_characters_stay_one_line_of_json(core: Core) -> None:
    job_id = await core.queued()
    name = 'a "model"\n\nid: 9-9\u2028'

    await core.executions.begin(job_id, WORKER, epoch=0, model=name, provider=name)

    started = (await core.events(job_id))[-1]
    assert started.id == EventId(1, 1)
    assert (started.json()["model"], started.json()["provider"]) == (name, name)


async def test_a_begin_that_is_sent_again_gives_the_execution_it_has_begun(core: Core) -> None:
    job_id = await core.queued()
    first = await core.begin(job_id, "w.1")

    again = await core.begin(job_id, "w.1")

    assert (again.epoch, again.seq, again.base, again.attempt) == (first.epoch, first.seq, first.base, first.attempt)
    assert await core.story(job_id) == ["0-1 queued", "1-1 started"]


async def test_who_was_frozen_before_its_begin_changes_nothing_of_an_execution_that_began_since(core: Core) -> None:
    job_id = await core.queued()
    await core.begin(job_id, "w.2")
    story = await core.story(job_id)

    late = await core.executions.begin(job_id, "w.1", epoch=0, model="m", provider="p")

    assert late == "stale"
    assert await core.story(job_id) == story
    assert (await core.job(job_id)).attempts == 1


async def test_a_later_execution_first_takes_back_what_the_former_one_showed(core: Core) -> None:
    former = await core.running("w.1")
    await core.append(frames_of(former, 2, "a", "b"))
    started_ms = (await core.job(former.job_id)).started_ms

    later = await core.begin(former.job_id, "w.2")

    assert (later.epoch, later.seq, later.base, later.attempt) == (2, 2, 4, 2)
    assert await core.story(former.job_id) == [
        "0-1 queued", "1-1 started", "1-2 delta", "1-3 delta", "2-1 rollback", "2-2 started",
    ]  # fmt: skip
    events = await core.events(former.job_id)
    assert events[-2].json() == {"to": "0-1", "reason": "worker_lost"}
    assert events[-1].json()["attempt"] == 2
    job = await core.job(former.job_id)
    assert (job.last, job.attempts, job.started_ms) == (EventId(2, 2), 2, started_ms)


async def test_rollback_and_started_are_one_entry(core: Core) -> None:
    former = await core.running("w.1")

    await core.begin(former.job_id, "w.2")

    entries = await core.client.xrange(core.keys.job(former.job_id).log)
    assert [entry[0] for entry in entries] == [b"0-1", b"1-1", b"2-2"]


async def test_an_epoch_that_a_killed_server_forgot_is_never_given_again(core: Core) -> None:
    job_id = await core.queued()
    forgotten = await core.begin(job_id, "w.1")
    await core.age(job_id, by_s=0.2)
    await set_field(core, job_id, status="queued", epoch=0, owner="", seq=1)
    await core.client.execute_command("FUNCTION", "DELETE", LIBRARY.name)  # as when it starts again

    first = await core.begin(job_id, "w.2")
    second = await core.begin(job_id, "w.3")

    assert forgotten.epoch + 2 < first.epoch < second.epoch


async def test_a_job_that_its_server_has_known_from_the_first_counts_its_epochs(core: Core) -> None:
    job_id = await core.queued(timeout_s=10_000.0)
    await core.begin(job_id, "w.1")
    assert (await core.begin(job_id, "w.2")).epoch == 2


async def test_a_taken_over_job_is_fenced_and_shows_nothing_new(core: Core) -> None:
    former = await core.running("w.1")
    before = await core.log_bytes(former.job_id)

    taken = await core.take_over(former.job_id)

    assert (taken.epoch, taken.seq, taken.base, taken.attempt) == (2, 0, 2, 1)
    assert await core.log_bytes(former.job_id) == before
    assert await core.append(frames_of(former, 2, "zombie")) == ["fenced"]
    assert await core.executions.beat([former, taken]) == ["fenced", None]


async def test_a_taken_over_job_can_still_be_begun(core: Core) -> None:
    job_id = await core.queued()
    await core.take_over(job_id)

    execution = await core.begin(job_id)

    assert (execution.epoch, execution.attempt) == (2, 1)
    assert await core.story(job_id) == ["0-1 queued", "2-1 rollback", "2-2 started"]


async def test_a_job_that_is_gone_can_neither_begin_nor_be_taken_over(core: Core) -> None:
    job_id = fresh_job_id()

    assert await refused(core, job_id) == "missing"
    assert await core.executions.take_over(job_id, WORKER) == "missing"
    assert await core.client.exists(core.keys.job(job_id).record, core.keys.job(job_id).log) == 0


async def test_a_job_that_has_ended_can_neither_begin_nor_be_taken_over(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED)

    assert await refused(core, execution.job_id) == "ended"
    assert await core.executions.take_over(execution.job_id, WORKER) == "ended"


async def test_a_job_that_is_being_cancelled_does_not_begin_but_can_be_taken_over(core: Core) -> None:
    execution = await core.running()
    await core.cancel(execution.job_id)

    assert await refused(core, execution.job_id) == "cancelling"
    assert (await core.take_over(execution.job_id)).epoch == 2


async def test_a_job_whose_time_is_over_does_not_begin_but_can_be_taken_over(core: Core) -> None:
    job_id = await core.queued()
    await core.client.hincrby(core.keys.job(job_id).record, "deadline", -60_000)  # type: ignore[misc]

    assert await refused(core, job_id) == "expired"
    assert (await core.take_over(job_id)).left_ms == 0
    assert await core.story(job_id) == ["0-1 queued"]


async def test_who_ends_what_another_has_begun_since_is_told_so(core: Core) -> None:
    job_id = await core.queued()
    await core.begin(job_id, "w.1")
    await core.begin(job_id, "w.2")

    assert await core.executions.take_over(job_id, "w.1", 1) == "stale"
    assert (await core.take_over(job_id)).epoch == 3


# Hand back, beat, abandon.


async def test_a_handed_back_job_has_cost_no_attempt_and_fences_who_gave_it(core: Core) -> None:
    execution = await core.running("w.1")

    assert await core.executions.leave(execution, DRAINED, costs=False)

    assert (await core.job(execution.job_id)).attempts == 0
    assert await core.append(frames_of(execution, 2, "late")) == ["fenced"]
    assert await core.executions.beat([execution]) == ["fenced"]
    assert await core.finish(execution, State.COMPLETED, seq=2) == "fenced"
    assert (await core.begin(execution.job_id, "w.2")).attempt == 1


async def test_handing_back_twice_counts_once(core: Core) -> None:
    execution = await core.running("w.1")
    await core.executions.leave(execution, DRAINED, costs=False)

    assert not await core.executions.leave(execution, DRAINED, costs=False)
    assert (await core.job(execution.job_id)).attempts == 0


async def test_nobody_hands_back_what_another_one_runs(core: Core) -> None:
    former = await core.running("w.1")
    await core.begin(former.job_id, "w.2")

    assert not await core.executions.leave(former, DRAINED, costs=False)
    assert (await core.job(former.job_id)).attempts == 2


async def test_a_beat_tells_each_execution_whether_to_go_on(core: Core) -> None:
    fine, cancelled, fenced, ended = [await core.running() for _ in range(4)]
    await core.cancel(cancelled.job_id)
    await core.begin(fenced.job_id, "another")
    await core.finish(ended, State.FAILED)
    missing = Execution(fresh_job_id(), 1, WORKER, 1, 1, 1, 1)

    answers = await core.executions.beat([fine, cancelled, fenced, ended, missing])

    assert answers == [None, "cancelled", "fenced", "ended", "missing"]
    assert await core.executions.beat([]) == []


@pytest.mark.parametrize("on_disconnect", OnDisconnect)
async def test_a_job_knows_when_it_is_given_up_if_no_viewer_comes(core: Core, on_disconnect: OnDisconnect) -> None:
    job = await core.job(await core.queued(abandonment=Abandonment(on_disconnect, 5.0, 1.0)))

    assert job.abandon_ms - job.created_ms == 5_000
    assert (job.abandonable, job.on_disconnect) == (True, on_disconnect)
    assert job.background is (on_disconnect is OnDisconnect.CONTINUE)


async def test_a_job_that_is_not_given_up_yet_stays_as_it_is(core: Core) -> None:
    abandonable = await core.running(abandonment=Abandonment(OnDisconnect.CANCEL, 30.0, 5.0))
    background, gone = await core.running(), fresh_job_id()

    answers = [await core.store.abandon(job_id, 7) for job_id in (abandonable.job_id, background.job_id, gone)]

    assert answers == ["watched"] * 3
    assert (await core.job(abandonable.job_id)).status is State.RUNNING


async def test_a_job_whose_time_without_viewers_is_over_is_given_up(core: Core) -> None:
    waiting, execution = await core.queued(), await core.running()
    for job_id in (waiting, execution.job_id):
        await core.client.hset(core.keys.job(job_id).record, "abandon_at", "1")  # type: ignore[misc]

    answers = [await core.store.abandon(job_id, 7) for job_id in (waiting, execution.job_id, waiting)]

    assert answers == ["cancelled", "cancelling", "ended"]
    outcome = (await core.job(waiting)).outcome
    assert (outcome["error"]["code"], outcome["tokens_saved"], outcome["events"]) == ("abandoned", 7, 2)
    assert (await core.store.cancel_state(execution.job_id))[0] == "abandoned"


# Finish.


async def test_a_finished_job_has_its_terminal_event_its_outcome_and_one_expiry_for_all_its_keys(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a"))
    data = encode_data({"finish_reason": "stop", "events": 4})
    frame = encode_frame(EventType.COMPLETED, data, EventId(1, 3))

    answer = await core.executions.finish(
        execution, seq=3, frame=frame, status=State.COMPLETED, outcome=data, result=b"a result"
    )

    assert answer == Written()
    job = await core.job(execution.job_id)
    assert (job.status, job.last, job.outcome) == (
        State.COMPLETED,
        EventId(1, 3),
        {"finish_reason": "stop", "events": 4},
    )
    assert (await core.log_bytes(execution.job_id)).endswith(frame)
    assert await core.client.get(core.keys.job(execution.job_id).result) == b"a result"
    (at,) = set(await expiries(core, execution.job_id))
    assert job.ended_ms <= at - int(RETENTION_S * 1000) <= job.ended_ms + 1_000


async def test_a_job_without_a_result_has_no_result_key(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED)

    *kept, result = await expiries(core, execution.job_id)
    assert result == -2
    assert len(set(kept)) == 1


async def test_finishing_again_with_the_identical_call_is_success(core: Core) -> None:
    execution = await core.running()

    answers = [await core.finish(execution, State.COMPLETED, seq=2) for _ in range(3)]

    assert answers == [Written(), Written(repeated=True), Written(repeated=True)]
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 completed"]


async def test_finishing_another_number_after_the_end_is_refused(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED, seq=2)

    assert await core.finish(execution, State.FAILED, seq=3) == "ended"
    assert (await core.job(execution.job_id)).status is State.COMPLETED


@pytest.mark.parametrize("seq", [1, 3, 4])
async def test_a_terminal_event_must_follow_the_last_event(core: Core, seq: int) -> None:
    execution = await core.running()

    assert await core.finish(execution, State.COMPLETED, seq=seq) == Behind(1)
    assert (await core.job(execution.job_id)).status is State.RUNNING
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started"]


async def test_a_former_execution_can_not_finish(core: Core) -> None:
    former = await core.running("w.1")
    later = await core.begin(former.job_id, "w.2")
    impostor = Execution(later.job_id, later.epoch, "w.3", later.seq, later.base, later.attempt, later.left_ms)

    assert await core.finish(former, State.COMPLETED, seq=2) == "fenced"
    assert await core.finish(impostor, State.COMPLETED, seq=3) == "fenced"
    assert await core.finish(later, State.COMPLETED, seq=3) == Written()


async def test_a_job_that_is_being_cancelled_finishes_as_cancelled_only(core: Core) -> None:
    execution = await core.running()
    await core.cancel(execution.job_id)

    for status in (State.COMPLETED, State.FAILED, State.EXPIRED):
        assert await core.finish(execution, status) == "cancelled"
    assert await core.finish(execution, State.CANCELLED) == Written()
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 cancelled"]


@pytest.mark.parametrize("status", [State.CANCELLED, State.RUNNING, State.QUEUED, State.CANCELLING])
async def test_a_running_job_can_not_be_finished_as_something_that_does_not_follow(core: Core, status: State) -> None:
    execution = await core.running()
    frame = encode_frame(EventType.FAILED, b"{}", EventId(1, 2))

    answer = await core.executions.finish(execution, seq=2, frame=frame, status=status, outcome=b"{}")

    assert answer == "refused"
    assert (await core.job(execution.job_id)).status is State.RUNNING


async def test_a_job_that_is_gone_can_not_be_finished(core: Core) -> None:
    execution = Execution(fresh_job_id(), 1, WORKER, 1, 1, 1, 1)

    assert await core.finish(execution, State.FAILED, seq=2) == "missing"
    assert await expiries(core, execution.job_id) == [-2, -2, -2, -2]


async def test_the_terminal_event_is_published_once_however_often_it_is_sent(core: Core) -> None:
    execution = await core.running()
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        for _ in range(3):
            await core.finish(execution, State.COMPLETED, seq=2)
        (received,) = await listener.received()

    assert is_terminal(received)


# Cancel.


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


async def test_a_running_job_is_cancelled_through_its_worker_which_is_told_each_time(core: Core) -> None:
    execution = await core.running()
    async with core.listening(core.keys.control) as listener:
        assert await core.cancel(execution.job_id) == "cancelling"
        assert await core.cancel(execution.job_id) == "cancelling"
        orders = await listener.received()

    assert orders == [execution.job_id.encode()] * 2
    assert (await core.job(execution.job_id)).status is State.CANCELLING
    assert await core.append(frames_of(execution, 2, "late")) == ["cancelled"]
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started"]


async def test_the_first_cancel_says_why_and_when(core: Core) -> None:
    execution = await core.running()
    assert await core.store.cancel_state(execution.job_id) == ("cancelled", 0)

    await core.store.cancel(execution.job_id, Abandoned("Everybody left."))
    code, at = await core.store.cancel_state(execution.job_id)
    await core.cancel(execution.job_id)

    assert code == "abandoned"
    assert at >= (await core.job(execution.job_id)).started_ms
    assert await core.store.cancel_state(execution.job_id) == (code, at)


async def test_a_job_that_ended_or_is_gone_can_not_be_cancelled_and_nobody_is_told(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED)
    async with core.listening(core.keys.control) as listener:
        assert await core.cancel(execution.job_id) == "ended"
        assert await core.cancel(fresh_job_id()) == "missing"
        assert await listener.received() == []

    assert (await core.job(execution.job_id)).status is State.COMPLETED


async def test_an_abandoned_queued_job_says_that_everybody_left(core: Core) -> None:
    job_id = await core.queued()

    await core.store.cancel(job_id, Cancelled.because("abandoned"))

    assert (await core.job(job_id)).outcome["error"] == {
        "type": "job_error",
        "code": "abandoned",
        "message": "The job had no reader, so it was cancelled.",
        "retryable": False,
    }


# Counters.


def counting_store(core: Core) -> tuple[Store, Executions, Metrics]:
    """Return the stores of a process that has just begun to count."""
    metrics = Metrics()
    store = Store(core.client, core.keys, retention_s=RETENTION_S, metrics=metrics)
    return store, Executions(core.client, core.keys, retention_s=RETENTION_S, metrics=metrics), metrics


def counts(cells: Cells[Count]) -> dict[tuple[str, ...], float]:
    """Return the counts that are not 0."""
    return {labels: number for labels, (number,) in cells.samples() if number}


async def test_a_job_is_counted_when_its_record_is_made_and_not_again(core: Core) -> None:
    store, _, metrics = counting_store(core)
    spec = make_spec(lane="fast")
    for _ in range(2):
        await store.create(spec, 1)

    assert counts(metrics.submitted) == {("fast",): 1}


async def test_an_execution_is_counted_when_it_begins_and_its_rollback_with_it(core: Core) -> None:
    _, executions, metrics = counting_store(core)
    job_id = await core.queued()
    for epoch, owner in ((0, "w.1"), (0, "w.2"), (1, "w.3")):  # the second one comes too late
        await executions.begin(job_id, owner, epoch=epoch, model="m", provider="p")
    await executions.take_over(job_id, "reaper")

    assert (counts(metrics.executions), counts(metrics.rollbacks)) == ({(): 2}, {(): 1})


async def finish(
    executions: Executions, execution: Execution, status: State, outcome: dict[str, object]
) -> FinishAnswer:
    data = encode_data(outcome)
    frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, 2))
    return await executions.finish(execution, seq=2, frame=frame, status=status, outcome=data)


async def test_an_end_is_counted_with_its_status_its_code_and_its_tokens(core: Core) -> None:
    store, executions, metrics = counting_store(core)
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    await finish(executions, await core.running(), State.COMPLETED, {"usage": usage})
    await finish(executions, await core.running(), State.FAILED, {"error": {"code": "server_error"}, "usage": None})
    await store.cancel(await core.queued(), Cancelled.because("abandoned"))

    ended = {("completed", ""): 1, ("failed", "server_error"): 1, ("cancelled", "abandoned"): 1}
    assert counts(metrics.ended) == ended
    assert counts(metrics.tokens) == {("prompt",): 7, ("completion",): 3}


async def test_an_end_whose_acknowledgement_was_lost_is_counted_by_whoever_sends_it_again(core: Core) -> None:
    _, executions, metrics = counting_store(core)
    execution = await core.running()
    outcome: dict[str, object] = {"usage": None}
    assert await finish(core.executions, execution, State.COMPLETED, outcome) == Written()  # the answer is lost
    assert await finish(executions, execution, State.COMPLETED, outcome) == Written(repeated=True)

    assert counts(metrics.ended) == {("completed", ""): 1}


async def test_an_end_that_is_refused_is_not_counted(core: Core) -> None:
    store, executions, metrics = counting_store(core)
    execution = await core.running()
    await core.take_over(execution.job_id)
    assert await finish(executions, execution, State.COMPLETED, {}) == "fenced"
    await store.cancel(execution.job_id, Cancelled.because("cancelled"))

    assert counts(metrics.ended) == {}
