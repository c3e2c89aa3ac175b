"""Run a worker on jobs that can't be run: broken records, requests and queue messages, and defects of its own."""

import asyncio

import pytest

from shared.model.events import EventType
from shared.store.keys import ARQ_JOB
from shared.store.queue import Queue
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.core import TIMEOUT_S, captured_logs, make_spec
from tests.support.system import System, running_worker


async def test_a_job_that_this_version_cannot_read_fails_and_the_worker_continues(system: System) -> None:
    core = system.core
    newer, kind, garbage, no_object, gone, fine = [await system.submit(model=name) for name in "abcdef"]
    await system.write(newer, v=2)
    await system.write(kind, kind="astrology")
    await core.client.set(core.keys.job(garbage).request, b'{"model": ')
    await core.client.set(core.keys.job(no_object).request, b'["a"]')
    await core.client.delete(core.keys.job(gone).request)
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        for broken in (kind, garbage, no_object, gone):
            story = await system.story(broken)
            assert story.types == ["queued", "failed"]
            assert story.code == "broken_job"
        assert (await system.story(fine)).types[-1] == "completed"
        # The gateway can't read a newer record either; the log is there all the same.
        events = await core.events(newer)

    assert [await system.queue_keys(job_id) for job_id in (newer, kind, garbage, no_object, gone)] == [[]] * 5
    assert [event.type for event in events] == [EventType.QUEUED, EventType.FAILED]
    assert events[-1].json()["error"]["code"] == "broken_job"
    assert [call.model for call in provider.calls] == ["f"]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x80\x04nonsense",
        b"[]",
        b"{}",
        b'{"t":null,"f":"another","a":["%s"],"k":{},"et":1}',
        b'{"t":null,"f":"run_job","a":["job_00000000000000000000000000"],"k":{},"et":0}',
        b'{"t":null,"f":"run_job","a":[],"k":{},"et":1}',
        b'{"t":null,"f":"run_job","a":7,"k":{},"et":1}',
        b'{"t":null,"f":"run_job","a":["%s"],"k":{"x":1},"et":1}',
        b'{"t":null,"f":"run_job","a":["%s"],"k":{},"et":"soon"}',
        b'{"t":"x","f":"run_job","a":["%s"],"k":{},"et":1}',
    ],
)
async def test_a_queue_message_that_is_garbage_ends_the_job(system: System, message: bytes) -> None:
    job_id = await system.submit()
    await system.core.client.set(ARQ_JOB + job_id, message.replace(b"%s", job_id.encode()))
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with running_worker(system.settings, provider):
        story = await system.story(job_id)
        after = await system.story(await system.submit())

    assert story.types == ["queued", "failed"]
    assert story.code == "broken_job"
    assert after.types[-1] == "completed"
    assert await system.queue_keys(job_id) == []


async def test_a_job_whose_queue_message_is_gone_is_run(system: System) -> None:
    job_id = await system.submit()
    await system.core.client.delete(ARQ_JOB + job_id)
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        assert (await system.story(job_id)).types == ["queued", "started", "completed"]


async def test_a_job_that_was_admitted_but_never_made_is_removed_by_the_worker_that_takes_it(system: System) -> None:
    ghost = make_spec()
    await system.core.queue_admission.admit(ghost, max_depth=10, retention_s=60)
    await system.due(ghost.id)
    provider = ControlledProvider(on_call=lambda call: call.end())
    assert await system.queue_keys(ghost.id) == ["lane", "active", "message"]
    async with running_worker(system.settings.model_copy(update={"worker_slots": 1}), provider):
        # The only slot has seen to the ghost before.
        await system.story(await system.submit())

    assert await system.queue_keys(ghost.id) == []
    assert len(provider.calls) == 1


async def test_a_job_whose_record_comes_while_its_worker_forgets_it_runs_all_the_same(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = make_spec()
    done, made, forgotten = Queue.done, asyncio.Event(), list[str]()

    async def done_too_late(queue: Queue, job_id: str, lane: str) -> None:
        if not forgotten:
            # The steps of a slow gateway, in its order, between the worker's read of the record and this.
            forgotten.append(job_id)
            await system.core.store.create(late, 1)
            assert not await system.core.queue_admission.release(late.id, late.lane)
            assert not await system.core.queue.restore((await system.job(late.id)).place, 30.0)
            made.set()
        await done(queue, job_id, lane)

    monkeypatch.setattr(Queue, "done", done_too_late)
    await system.core.queue_admission.admit(late, max_depth=10, retention_s=60)
    await system.due(late.id)
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        await asyncio.wait_for(made.wait(), TIMEOUT_S)
        story = await system.story(late.id)

    assert forgotten == [late.id]
    assert story.types == ["queued", "started", "completed"]


async def test_a_job_that_was_made_but_never_released_runs_by_itself(system: System) -> None:
    """It gets no wake-up; the worker has received nothing for long."""
    spec = make_spec()
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with system.commands() as seen, running_worker(system.settings, provider):
        await seen(system.waiting)
        await system.core.queue_admission.admit(spec, max_depth=10, retention_s=60)
        await system.core.store.create(spec, 1)
        await system.due(spec.id)  # five seconds later
        story = await system.story(spec.id)

    assert story.types == ["queued", "started", "completed"]


async def test_a_defect_in_the_code_ends_the_job_as_internal_error_and_the_worker_continues(system: System) -> None:
    def on_call(call: Call) -> None:
        if call.model == "defect":
            call.say("a", "b")
            call.fail(RuntimeError("a defect of ours"))
        else:
            call.end()

    async with running_worker(system.settings, ControlledProvider(on_call)):
        story = await system.story(await system.submit(model="defect"))
        after = await system.story(await system.submit())

    assert story.code == "internal_error"
    assert story.types.count("failed") == 1
    assert "defect of ours" not in str(story.end)
    assert after.types[-1] == "completed"


async def test_a_job_that_can_be_neither_run_nor_ended_is_given_back_and_logged_once(system: System) -> None:
    job_id = await system.submit()
    await system.core.client.set(system.core.keys.job(job_id).record, "not a hash")
    with captured_logs() as logs:
        async with running_worker(system.settings, ControlledProvider(lambda call: call.end())):
            for _ in range(2):
                async with asyncio.timeout(TIMEOUT_S):
                    while await due_in_s(system, job_id) < 20:
                        pass
                await system.due(job_id)
            assert (await system.story(await system.submit())).types[-1] == "completed"

    assert len(logs.named("attempt.crashed")) == 1


async def due_in_s(system: System, job_id: str) -> float:
    seconds, _ = await system.core.client.time()
    due_ms = await system.core.client.zscore(system.lane, job_id)
    assert due_ms is not None
    return float(due_ms) / 1000 - int(seconds)
