"""Run a job through the worker: its reader's events, for each state of the provider, the record or the queue."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.bounds import USAGE_BYTES
from shared.model.errors import ProviderUnreachable, StartupError, is_request_fault
from shared.model.events import EventType
from shared.model.lifecycle import State
from shared.store.keys import ARQ_JOB
from shared.store.queue import Queue
from tests.support.controlled_provider import Call, ControlledProvider, chunk_of
from tests.support.core import TIMEOUT_S, captured_logs, make_spec
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker
from tests.support.upstream import ask as scripted
from tests.support.upstream import expected_text, running_upstream

SOON_S = 0.3


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway on this test's keys."""
    async with running_system(settings) as opened:
        yield opened


# A job's way.


async def test_a_job_is_queued_started_told_and_completed(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(temperature=0.5)
        call = await provider.call()
        call.say("The ", "end", ".")
        call.end(usage={"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}})
        story = await system.story(job_id)

    assert call.request == ask(temperature=0.5)
    assert [f"{event.id} {event.type}" for event in story.events] == [
        "0-1 queued",
        "1-1 started",
        "1-2 delta",
        "1-3 delta",
        "1-4 delta",
        "1-5 completed",
    ]
    assert story.events[0].json() == {"job": job_id, "lane": "default", "position": 1}
    assert story.events[1].json() == {"attempt": 1, "model": "mock", "provider": "mock", "resumed_from": None}
    assert story.text == "The end."
    assert story.end["finish_reason"] == "stop"
    assert story.end["finish_reasons"] == ["stop"]
    assert story.end["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 5},
        "source": "provider",
    }
    job = await system.job(job_id)
    assert (job.status, job.attempts) == (State.COMPLETED, 1)
    assert dict(job.outcome) == story.end
    assert await system.queue_keys(job_id) == []


async def test_tokens_reach_a_reader_while_the_provider_still_speaks(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        async with system.reading(job_id) as read:
            assert [(await read()).type for _ in range(2)] == [EventType.QUEUED, EventType.STARTED]
            for word in ("one ", "two ", "three"):
                call.say(word)
                assert (await read()).json() == {"content": word}
            call.end()
            assert (await read()).type is EventType.COMPLETED


async def test_what_nobody_counted_is_estimated(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(text="x" * 36)
        call = await provider.call()
        call.say("a", "b")
        call.end("length")
        story = await system.story(job_id)

    assert story.end["finish_reason"] == "length"
    # "user" and 36 characters, at four to a token.
    assert story.end["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "source": "estimated",
    }


@pytest.mark.parametrize("count", [-5, 10**400, True, 2.5, None], ids=["negative", "huge", "a truth", "a part", "none"])
async def test_a_count_that_can_be_none_is_not_believed(system: System, count: object) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.say("a", "b")
        call.end(usage={"prompt_tokens": 3, "completion_tokens": count})
        story = await system.story(job_id)

    assert story.types[-1] == "completed"
    assert (story.end["usage"]["completion_tokens"], story.end["usage"]["source"]) == (2, "estimated")


async def test_each_choice_has_its_deltas_and_its_finish_reason(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit(n=3)
        call = await provider.call()
        for index in (2, 0, 1):
            call.send(chunk_of({"content": f"choice {index}"}, index=index))
        for index, reason in ((1, "length"), (0, "stop"), (2, "content_filter")):
            call.send(chunk_of({}, reason, index))
        call.stop()
        story = await system.story(job_id)

    assert [event.json() for event in story.deltas] == [
        {"content": "choice 2", "index": 2},
        {"content": "choice 0"},
        {"content": "choice 1", "index": 1},
    ]
    assert story.end["finish_reason"] == "stop"
    assert story.end["finish_reasons"] == ["stop", "length", "content_filter"]


async def test_an_answer_without_a_word_is_complete_all_the_same(system: System) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end("content_filter"))
    async with running_worker(system.settings, provider):
        story = await system.story(await system.submit())

    assert story.types == ["queued", "started", "completed"]
    assert story.end["finish_reason"] == "content_filter"


async def test_a_text_that_could_break_a_stream_arrives_to_the_letter(system: System) -> None:
    body = scripted(tokens=300, seed=7, reasoning=3)
    async with running_worker(system.settings):
        story = await system.story(await system.submit(body))

    assert story.text == expected_text(body)
    assert len(story.deltas) == 303


async def test_tool_calls_and_logprobs_come_as_the_provider_sent_them(system: System) -> None:
    sent = [
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
        {"refusal": "No."},
    ]
    logprobs = {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]}
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        for delta in sent:
            call.send(chunk_of(delta))
        call.send({"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": logprobs}]})
        call.end("tool_calls")
        story = await system.story(job_id)

    assert [event.json() for event in story.deltas] == [*sent, {"content": "x", "logprobs": logprobs}]


# Failures of a provider.


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"fault": "refuse"}, "provider_error"),
        ({"fault": "refuse", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"fault": "refuse", "code": "context_length_exceeded"}, "context_length_exceeded"),
        ({"fault": "truncate"}, "provider_truncated"),
        ({"fault": "nonsense"}, "provider_garbage"),
        ({"fault": "stall"}, "provider_timeout"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
async def test_a_providers_fault_is_one_failed_event_with_its_code(
    system: System, script: dict[str, Any], code: str, after: int
) -> None:
    short = system.settings.model_copy(update={"first_token_timeout_s": SOON_S, "gap_timeout_s": SOON_S})
    async with running_worker(short):
        story = await system.story(await system.submit(scripted(tokens=5, after=after, **script)))

    assert story.types == ["queued", "started", *["delta"] * after, "failed"]
    assert story.code == code
    assert story.end["error"]["type"] == ("request_error" if is_request_fault(code) else "provider_error")
    if after:
        assert story.end["usage"]["completion_tokens"] == after
        assert story.end["usage"]["source"] == "partial"
    else:
        assert story.end["usage"] is None


async def test_a_provider_that_cannot_be_reached_is_one_failed_event(system: System) -> None:
    nowhere = system.settings.model_copy(update={"upstream_url": "http://127.0.0.1:1/v1"})
    async with running_worker(nowhere):
        story = await system.story(await system.submit())

    assert story.types == ["queued", "started", "failed"]
    assert (story.code, story.end["error"]["retryable"]) == ("provider_unreachable", True)


@pytest.mark.parametrize(
    ("chunk", "delta"),
    [
        (
            {"choices": [{"index": 0, "delta": {"content": "b", "score": math.nan}}]},
            {"content": "b", "score": None},
        ),
        (
            {"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [{"logprob": -math.inf}]}}]},
            {"content": "b", "logprobs": {"content": [{"logprob": None}]}},
        ),
    ],
    ids=["delta", "logprobs"],
)
async def test_a_number_that_json_has_no_word_for_is_null(
    system: System, chunk: dict[str, Any], delta: dict[str, Any]
) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.send(chunk)
        call.end()
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "completed"]
    assert [event.json() for event in story.deltas] == [delta]


@pytest.mark.parametrize(("index", "code"), [(127, None), (128, "provider_garbage"), (10**12, "provider_garbage")])
async def test_a_choice_has_an_index_that_somebody_could_have_asked_for(
    system: System, index: int, code: str | None
) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.send(chunk_of({"content": "x"}, "stop", index))
        call.stop()
        story = await system.story(job_id)

    assert story.code == code
    assert code or len(story.end["finish_reasons"]) == index + 1


async def test_a_whole_answer_is_not_spoiled_by_what_is_told_about_its_usage(system: System) -> None:
    spoilt = {"x_details": {"x": math.nan}, "z_details": {"z": "z" * USAGE_BYTES}}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "y_details": {"y": 3}, **spoilt}
    provider = ControlledProvider(on_call=lambda call: call.end(usage=usage))
    async with running_worker(system.settings, provider):
        story = await system.story(await system.submit())

    assert story.types == ["queued", "started", "completed"]
    counted = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "y_details": {"y": 3}}
    assert story.end["usage"] == {**counted, "x_details": {"x": None}, "source": "provider"}


async def test_a_log_that_would_grow_too_large_ends_the_job_and_its_upstream(system: System) -> None:
    async with running_upstream() as upstream:
        small = {"upstream_url": upstream.base_url, "max_log_bytes": 4096}
        async with running_worker(system.settings.model_copy(update=small)):
            story = await system.story(await system.submit(scripted(tokens=1_000_000, rate=2000)))
            await upstream.until(lambda: upstream.closed == 1)

    assert story.types[-1] == "failed"
    assert story.code == "output_too_large"
    logged = sum(len(event.data) for event in story.deltas)
    assert logged <= 4096 + 200
    assert story.end["usage"]["source"] == "partial"


# Deadlines.


async def test_a_running_job_whose_time_is_over_expires_and_its_upstream_is_closed(system: System) -> None:
    async with running_upstream() as upstream:
        settings = system.settings.model_copy(update={"upstream_url": upstream.base_url})
        async with running_worker(settings):
            body = scripted(tokens=9, fault="stall", after=2)
            story = await system.story(await system.submit({**body, "timeout_s": SOON_S}))
            await upstream.until(lambda: upstream.closed == 1)

    assert story.types == ["queued", "started", "delta", "delta", "expired"]
    assert story.code == "deadline_passed"
    assert story.end["usage"]["source"] == "partial"


async def test_a_job_whose_time_was_over_before_it_was_taken_expires_without_being_asked(system: System) -> None:
    job_id = await system.submit()
    await system.write(job_id, deadline=1)
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        story = await system.story(job_id)

    assert story.types == ["queued", "expired"]
    assert provider.calls == []


# Jobs that can't be run.


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


# Defects.


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


# Slots.


async def test_no_more_jobs_run_at_once_than_there_are_slots_and_all_of_them_run(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings.model_copy(update={"worker_slots": 3}), provider):
        job_ids = [await system.submit(model=f"m{number}") for number in range(10)]
        for number in range(10):
            call = await provider.call(number)
            await provider.until(lambda number=number: len(provider.running) == min(3, 10 - number))  # type: ignore[misc]
            call.say(call.model)
            call.end()
            story = await system.story(job_ids[int(call.model.removeprefix("m"))])
            assert story.text == call.model


async def test_a_worker_that_joins_a_fleet_full_of_long_jobs_fills_its_slots(system: System) -> None:
    """arq alone reads the first hundred jobs of a queue, in which running ones stay."""
    provider = ControlledProvider(on_call=lambda call: call.say("Long."))
    long_waits = {"first_token_timeout_s": 60.0, "gap_timeout_s": 60.0}

    def worker(slots: int) -> AbstractAsyncContextManager[object]:
        return running_worker(system.settings.model_copy(update={**long_waits, "worker_slots": slots}), provider)

    for spec in [make_spec() for _ in range(150)]:
        await system.core.queue_admission.admit(spec, max_depth=150, retention_s=60)
        await system.core.store.create(spec, 1)
        await system.core.queue_admission.release(spec.id, spec.lane)
    async with AsyncExitStack() as fleet:
        for slots, running in ((40, 40), (40, 80), (40, 120), (20, 140), (10, 150)):
            await fleet.enter_async_context(worker(slots))
            await provider.until(lambda running=running: len(provider.running) == running)  # type: ignore[misc]
        # No job has made room for another.
        assert len(provider.calls) == 150


async def test_no_slot_is_lost_whatever_becomes_of_jobs(system: System) -> None:
    def on_call(call: Call) -> None:
        match call.model:
            case "defect":
                call.fail(RuntimeError("a defect of ours"))
            case "garbage":
                call.send({"choices": 7})
            case "truncated":
                call.say("a")
                call.stop()
            case "fine":
                call.end()
            case model if model.startswith("last"):
                call.say("a")  # in time, however late its end comes

    provider = ControlledProvider(on_call)
    slots = 3
    settings = system.settings.model_copy(update={"worker_slots": slots, "first_token_timeout_s": SOON_S})
    async with running_worker(settings, provider):
        for _ in range(slots):
            ended = [await system.submit(model=model) for model in ("defect", "garbage", "truncated", "silent", "fine")]
            lost = await system.submit(model="fine")
            await system.core.client.delete(ARQ_JOB + lost)
            ended.append(lost)
            cancelled = await system.submit(model="cancelled")
            for job_id in ended:
                await system.story(job_id)
            await system.cancel(cancelled)
            await system.story(cancelled)
            ghost = make_spec()
            await system.core.queue_admission.admit(ghost, max_depth=10, retention_s=60)
            await system.due(ghost.id)
        last = [await system.submit(model=f"last {number}") for number in range(slots + 1)]
        await provider.until(lambda: len(provider.running) == slots)
        assert all(model.startswith("last") for model in provider.running)
        for number, job_id in enumerate(last):
            (await provider.call_for(f"last {number}")).end()
            assert (await system.story(job_id)).types[-1] == "completed"


# The catalog.


async def test_the_models_of_the_provider_can_be_asked_for(system: System) -> None:
    async with system.commands() as seen, running_worker(system.settings, ControlledProvider()):
        await seen(f"SET {system.core.keys.models}")
        listed = (await system.client.get("/v1/models")).json()

    assert [model["id"] for model in listed["data"]] == ["mock"]


async def test_where_models_are_settings_these_are_published(system: System) -> None:
    settings = system.settings.model_copy(update={"models": ("large", "small")})
    async with system.commands() as seen, running_worker(settings, ControlledProvider()):
        await seen(f"SET {system.core.keys.models}")
        listed = (await system.client.get("/v1/models")).json()
        story = await system.story(await system.submit(model="huge"))

    assert [model["id"] for model in listed["data"]] == ["large", "small"]
    assert (story.types, story.code) == (["queued", "failed"], "model_not_found")


async def test_a_provider_that_does_not_list_its_models_answers_all_the_same(system: System) -> None:
    class Silent(ControlledProvider):
        async def models(self) -> list[str]:
            raise ProviderUnreachable("Not now.")

    with captured_logs() as logs:
        async with running_worker(system.settings, Silent(on_call=lambda call: call.end())):
            await logs.wait_for("worker.no_models")
            assert (await system.story(await system.submit())).types[-1] == "completed"


# Configurations that it refuses to start with.


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"upstream_url": None}, "No upstream is configured: set TAILRACE_UPSTREAM_URL"),
        ({"upstream_url": "nowhere"}, "upstream"),
        ({"redis_url": None}, "TAILRACE_REDIS_URL is not set"),
        ({"redis_url": "redis://127.0.0.1:1"}, "Redis does not answer"),
    ],
    ids=["upstream", "bad upstream", "redis", "bad redis"],
)
async def test_a_worker_that_cannot_work_says_why_and_its_exit_status_is_2(
    settings: Settings, changes: dict[str, Any], sentence: str
) -> None:
    async with Processes(settings) as processes:
        with pytest.raises(StartupError) as refused:
            await processes.worker(**changes)

    assert "(exit status 2)" in str(refused.value)
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)
