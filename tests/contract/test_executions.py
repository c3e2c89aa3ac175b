"""Test the executions of a job on a real server: begun, fenced, handed back and finished."""

import pytest

from shared.model.errors import Drained
from shared.model.events import EventId, EventType, encode_data, encode_frame, is_terminal
from shared.model.jobs import Abandonment, OnDisconnect
from shared.model.lifecycle import State
from shared.model.progress_count import ReportSequence
from shared.store.executions import Execution, Succession
from shared.store.function_library import LIBRARY
from shared.store.wire.answers import Behind, Written
from tests.contract.stores import expiries, set_field
from tests.support.core import RETENTION_S, WORKER, Core, frames_of, fresh_job_id

DRAINED = Drained("The worker was stopped.")


async def refused(core: Core, job_id: str, *, epoch: int = 0, after: Succession | None = None) -> object:
    """Return the answer of `begin` for a job that may not begin."""
    return await core.executions.begin(job_id, "another", epoch=epoch, model="m", provider="p", after=after)


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


async def test_a_late_begin_changes_nothing_of_an_execution_that_began_meanwhile(core: Core) -> None:
    job_id = await core.queued()
    await core.begin(job_id, "w.2")
    story = await core.story(job_id)

    late = await core.executions.begin(job_id, "w.1", epoch=0, model="m", provider="p")

    assert late == "stale"
    assert await core.story(job_id) == story
    assert (await core.job(job_id)).attempts == 1


async def test_a_later_execution_first_rolls_back_the_former_one(core: Core) -> None:
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


async def test_an_epoch_that_a_killed_server_lost_is_never_given_again(core: Core) -> None:
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


async def test_a_missing_job_can_neither_begin_nor_be_taken_over(core: Core) -> None:
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


async def test_taking_over_a_job_that_has_begun_again_is_stale(core: Core) -> None:
    job_id = await core.queued()
    await core.begin(job_id, "w.1")
    await core.begin(job_id, "w.2")

    assert await core.executions.take_over(job_id, "w.1", 1) == "stale"
    assert (await core.take_over(job_id)).epoch == 3


async def test_a_handed_back_job_costs_no_attempt_and_fences_its_former_execution(core: Core) -> None:
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


async def test_a_former_execution_cannot_hand_back_its_job(core: Core) -> None:
    former = await core.running("w.1")
    await core.begin(former.job_id, "w.2")

    assert not await core.executions.leave(former, DRAINED, costs=False)
    assert (await core.job(former.job_id)).attempts == 2


async def test_a_beat_returns_for_each_execution_whether_it_may_continue(core: Core) -> None:
    fine, cancelled, fenced, ended = [await core.running() for _ in range(4)]
    await core.cancel(cancelled.job_id)
    await core.begin(fenced.job_id, "another")
    await core.finish(ended, State.FAILED)
    missing = Execution(fresh_job_id(), 1, WORKER, 1, 1, 1, 1)

    answers = await core.executions.beat([fine, cancelled, fenced, ended, missing])

    assert answers == [None, "cancelled", "fenced", "ended", "missing"]
    assert await core.executions.beat([]) == []


@pytest.mark.parametrize("on_disconnect", OnDisconnect)
async def test_a_job_record_has_the_time_at_which_it_is_given_up_without_viewers(
    core: Core, on_disconnect: OnDisconnect
) -> None:
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


async def test_a_missing_job_can_not_be_finished(core: Core) -> None:
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


async def test_only_the_running_execution_writes_a_report(core: Core) -> None:
    job_id = await core.queued()
    first = await core.begin(job_id, "w.1")
    report = ReportSequence(first.epoch, first.attempt).next(1, 3, "indexing")

    assert await core.store.write_report(first, report)
    assert (await core.job(job_id)).report == report
    assert await core.executions.leave(first, DRAINED, costs=False)
    assert not await core.store.write_report(first, report)
    await core.begin(job_id, "w.2")
    assert (await core.job(job_id)).report is None
