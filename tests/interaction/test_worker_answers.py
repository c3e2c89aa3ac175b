"""Run a job through the worker: each kind of answer reaches its reader whole, in order, and with its usage."""

import pytest

from shared.model.events import EventType
from shared.model.lifecycle import State
from tests.support.controlled_provider import ControlledProvider, chunk_of
from tests.support.system import System, ask, running_worker
from tests.support.upstream import ask as scripted
from tests.support.upstream import expected_text


async def test_a_job_is_queued_started_streamed_and_completed(system: System) -> None:
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


async def test_uncounted_usage_is_estimated(system: System) -> None:
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
