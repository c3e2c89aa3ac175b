"""Test appends to the replay log: which entries are accepted, and the messages that are published."""

import pytest

from shared.model.errors import Drained
from shared.model.events import EventId, EventType, encode_frame
from shared.model.lifecycle import State
from shared.store.client import REDIS_FULL
from shared.store.executions import Execution
from shared.store.replay_log import Entry
from shared.store.wire.answers import Behind, Busy, Taken, Written
from tests.support.core import WORKER, Core, frames_of, fresh_job_id, make_spec


async def test_an_accepted_entry_is_logged_and_published_unchanged(core: Core) -> None:
    execution = await core.running()
    one, two = frames_of(execution, 2, "a"), frames_of(execution, 3, "b", "c")
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        assert await core.append(one) == [Written()]
        assert await core.append(two) == [Written()]
        assert await listener.received() == [one.frames, two.frames]

    entries = await core.client.xrange(core.keys.job(execution.job_id).log)
    assert entries[2:] == [(b"1-2", {b"f": one.frames}), (b"1-4", {b"f": two.frames})]
    assert (await core.job(execution.job_id)).last == EventId(1, 4)


async def test_the_identical_entry_sent_again_is_there_already(core: Core) -> None:
    execution = await core.running()
    entry = frames_of(execution, 2, "a", "b")

    assert [await core.append(entry) for _ in range(3)] == [
        [Written()],
        [Written(repeated=True)],
        [Written(repeated=True)],
    ]

    assert (await core.story(execution.job_id))[2:] == ["1-2 delta", "1-3 delta"]


async def test_an_entry_that_leaves_a_gap_is_answered_with_the_end_of_the_log(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a"))

    assert await core.append(frames_of(execution, 4, "c")) == [Behind(2)]
    assert (await core.job(execution.job_id)).last == EventId(1, 2)


async def test_an_entry_that_overlaps_the_log_is_not_logged_twice(core: Core) -> None:
    execution = await core.running()
    await core.append(frames_of(execution, 2, "a"))

    assert await core.append(frames_of(execution, 2, "a", "b")) == [Behind(2)]
    assert await core.append(frames_of(execution, 3, "b")) == [Written()]


async def test_the_refusals_say_why_the_execution_is_over(core: Core) -> None:
    fenced, cancelled, ended = [await core.running() for _ in range(3)]
    await core.begin(fenced.job_id, "another")
    await core.cancel(cancelled.job_id)
    await core.finish(ended, State.COMPLETED)
    missing = Execution(fresh_job_id(), 1, WORKER, 1, 1, 1, 1)

    answers = await core.append(*(frames_of(each, 3, "late") for each in (fenced, cancelled, ended, missing)))

    assert answers == ["fenced", "cancelled", "ended", "missing"]
    assert not await core.client.exists(core.keys.job(missing.job_id).log)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"epoch": 0}, {"owner": "worker.2"}, {"owner": ""}], ids=str)
async def test_epoch_and_owner_must_both_be_the_records(core: Core, change: dict[str, str | int]) -> None:
    execution = await core.running()

    assert await core.append(frames_of(execution, 2, "a")._replace(**change)) == ["fenced"]  # type: ignore[arg-type]
    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started"]


async def test_nothing_is_accepted_after_the_terminal_event(core: Core) -> None:
    execution = await core.running()
    await core.finish(execution, State.COMPLETED, seq=2)

    assert await core.append(frames_of(execution, 3, "late")) == ["ended"]
    assert (await core.story(execution.job_id))[-1] == "1-2 completed"


async def test_the_entries_of_one_call_are_judged_apart_from_each_other(core: Core) -> None:
    fine, fenced, odd, also_fine = [await core.running() for _ in range(4)]
    await core.begin(fenced.job_id, "another")
    await core.client.set(core.keys.job(odd.job_id).log, "not a stream")
    entries = [frames_of(each, 2, "a") for each in (fine, fenced, odd, also_fine)]

    answers = await core.append(*entries)

    assert (answers[0], answers[1], answers[3]) == (Written(), "fenced", Written())
    assert isinstance(answers[2], Busy) and answers[2].reason
    assert [str(tail) for tail in await core.tails(fine.job_id, odd.job_id, also_fine.job_id)] == ["1-2", "1-1", "1-2"]


async def test_two_entries_of_one_job_may_share_a_call(core: Core) -> None:
    execution = await core.running()

    assert await core.append(frames_of(execution, 2, "a"), frames_of(execution, 3, "b")) == [Written(), Written()]
    assert await core.append() == []


async def test_a_subscriber_receives_exactly_the_accepted_entries(core: Core) -> None:
    execution = await core.running()
    good, after = frames_of(execution, 2, "good"), frames_of(execution, 3, "after")
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        await core.append(good, good, frames_of(execution, 5, "gap"), good._replace(owner="zombie"), after)
        await core.cancel(execution.job_id)
        await core.append(frames_of(execution, 4, "late"))
        received = await listener.received()

    assert received == [good.frames, after.frames]
    assert b"".join(received) == (await core.log_bytes(execution.job_id)).split(b"id: 1-1\n\n")[1]


async def test_a_new_execution_announces_itself_on_the_channel(core: Core) -> None:
    former = await core.running("w.1")
    async with core.listening(core.keys.channel(former.job_id)) as listener:
        await core.begin(former.job_id, "w.2")
        (received,) = await listener.received()

    assert (await core.log_bytes(former.job_id)).endswith(received)
    assert received.startswith(b"event: rollback\n")


@pytest.mark.parametrize(("size", "carried"), [(16_384, True), (16_385, False)])
async def test_a_large_entry_is_logged_whole_and_the_channel_only_nudges(core: Core, size: int, carried: bool) -> None:
    execution = await core.running()
    bare = len(frames_of(execution, 2, "").frames)
    entry = frames_of(execution, 2, "x" * (size - bare))
    assert len(entry.frames) == size
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        assert await core.append(entry) == [Written()]
        assert await listener.received() == [entry.frames if carried else b""]

    assert (await core.log_bytes(execution.job_id)).endswith(entry.frames)


async def test_any_bytes_of_a_frame_come_through(core: Core) -> None:
    execution = await core.running()
    frames = encode_frame(EventType.DELTA, bytes(range(32, 256)), EventId(1, 2))

    await core.append(Entry(execution.job_id, 1, WORKER, 2, 2, frames))

    assert (await core.log_bytes(execution.job_id)).endswith(frames)


async def test_many_large_entries_go_in_one_call(core: Core) -> None:
    executions = [await core.running() for _ in range(20)]
    entries = [frames_of(each, 2, "x" * 60_000) for each in executions]

    assert await core.append(*entries) == [Written()] * 20


async def test_a_full_server_refuses_new_work_and_existing_jobs_can_end(own_core: Core) -> None:
    core = own_core
    finishing, cancelling, draining = [await core.running() for _ in range(3)]
    queued, late = await core.queued(), make_spec()
    await core.queue_admission.admit(make_spec(id=queued), max_depth=9, retention_s=60)
    await core.queue_admission.release(queued, "default")
    await core.client.config_set("maxmemory", 1)

    answers = await core.append(frames_of(finishing, 2, "a"), frames_of(cancelling, 2, "b"))
    assert [type(answer) for answer in answers] == [Busy, Busy]
    for refused in (core.store.create(late, 1), core.queue_admission.admit(late, max_depth=9, retention_s=60)):
        with pytest.raises(REDIS_FULL):
            await refused
    assert await core.client.exists(core.keys.job(late.id).record, f"arq:job:{late.id}") == 0

    assert await core.finish(finishing, State.FAILED) == Written()
    assert await core.cancel(cancelling.job_id) == "cancelling"
    assert await core.finish(cancelling, State.CANCELLED) == Written()
    assert await core.executions.beat([draining]) == [None]
    assert await core.executions.leave(draining, Drained("It was stopped."), costs=False)
    assert isinstance(await core.queue.take(["default"], "w.9", 1.0), Taken)
    assert (await core.begin(queued)).epoch == 1
    await core.queue.done(queued, "default")

    await core.client.config_set("maxmemory", 0)
    assert await core.append(frames_of(await core.begin(draining.job_id, "w.2"), 3, "a")) == [Written()]
