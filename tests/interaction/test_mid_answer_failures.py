"""Continue an answer that broke in the middle, roll it back, or fail it, as its policy says.

Workers and gateways are in this process; the test scripts the provider. Not here: the decisions
(tests/unit/worker/model/test_retry.py), killed processes (test_continuation.py).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import (
    Drained,
    Interrupted,
    LogBehind,
    ProviderTruncated,
    ProviderUnreachable,
)
from shared.model.events import EventType
from shared.model.routes import Continuation, OnStreamFailure
from shared.store.executions import Executions
from shared.store.replay_log import Entry, ReplayLog
from shared.store.wire.answers import AppendAnswer, Taken
from tests.support.controlled_provider import ControlledProvider, chunk_of
from tests.support.core import TIMEOUT_S, frames_of
from tests.support.scripted_attempts import BROKEN, USAGE, answer, begun, fail_first, with_three_attempts
from tests.support.system import PROMPT, System, ask, running_worker

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_three_attempts(settings)


async def test_a_broken_stream_continues_in_mid_sentence(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit(ask(max_tokens=9))
        await fail_first(provider, "There ", "are ", "sev")
        rest = await answer(provider, 1, "en", ".", usage={**USAGE, "prompt_tokens": 12})
        story = await system.story(job_id)

    assert story.types == ["queued", "started", *["delta"] * 3, "started", *["delta"] * 2, "completed"]
    assert story.text == "There are seven."
    assert story.events[5].json()["resumed_from"] == "1-4"
    assert rest.request["messages"] == [*PROMPT, {"role": "assistant", "content": "There are sev"}]
    assert rest.request["max_tokens"] == 6
    assert story.end["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "source": "estimated",
    }


async def test_an_answer_continues_again_and_again(system: System, provider: ControlledProvider) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        await fail_first(provider, "a")
        second = await provider.call(1)
        second.say("b")
        second.fail(ProviderTruncated("It ended."))
        await answer(provider, 2, "c")
        story = await system.story(job_id)

    assert [begun(call) for call in provider.calls] == [None, "a", "ab"]
    assert story.text == "abc"


async def test_an_answer_that_has_all_its_tokens_is_not_asked_for_more(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit(ask(max_tokens=2))
        await fail_first(provider, "a", "b")
        story = await system.story(job_id)

    assert (story.text, story.end["finish_reason"]) == ("ab", "length")
    assert len(provider.calls) == 1


async def test_arguments_of_tool_calls_are_never_spliced(system: System, provider: ControlledProvider) -> None:
    call_part = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a'}}]}
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        first = await provider.call()
        first.send(chunk_of(call_part))
        first.fail(BROKEN)
        await answer(provider, 1, "Without.")
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "rollback", "started", "delta", "completed"]
    assert story.events[3].json() == {"to": "0-1", "reason": "provider_unreachable"}
    assert (story.text, begun(provider.calls[1])) == ("Without.", None)


@pytest.mark.parametrize("by", ["request", "settings", "provider"])
async def test_a_stream_is_rolled_back_if_it_must_not_or_cannot_continue(
    system: System, provider: ControlledProvider, by: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "request": {},
        "settings": {"on_stream_failure": OnStreamFailure.ROLLBACK},
        "provider": {"upstream_continuation": Continuation.NONE},
    }
    fields = {"on_stream_failure": "rollback"} if by == "request" else {}
    async with running_worker(system.settings.model_copy(update=changes[by]), provider):
        job_id = await system.submit(ask(**fields))
        await fail_first(provider, "Wrong.")
        await answer(provider, 1, "Right.")
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "delta", "rollback", "started", "delta", "completed"]
    assert story.text == "Right."
    assert begun(provider.calls[1]) is None


async def test_a_stream_that_is_to_fail_fails_with_its_cause_once_it_has_shown_something(
    system: System, provider: ControlledProvider
) -> None:
    async with running_worker(system.settings, provider):
        job_id = await system.submit(ask(on_stream_failure="fail"))
        (await provider.call()).fail(BROKEN)
        second = await provider.call(1)
        second.say("This ", "much")
        second.fail(ProviderUnreachable("It broke."))
        story = await system.story(job_id)

    assert story.types == ["queued", "started", "started", "delta", "delta", "failed"]
    assert (story.text, story.end["error"]["message"]) == ("This much", "It broke.")


@pytest.mark.parametrize(("policy", "text"), [("continue", "half whole."), ("rollback", "whole."), ("fail", "half ")])
async def test_a_lost_workers_answer_follows_the_same_policy(
    system: System, provider: ControlledProvider, policy: str, text: str
) -> None:
    job_id = await system.submit(ask(on_stream_failure=policy))
    lost = await system.core.begin(job_id, "dead.1")
    await system.core.append(frames_of(lost, 2, "half "))
    async with running_worker(system.settings, provider):
        if policy != "fail":
            await answer(provider, 0, "whole.")
        story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.text == text
    assert job["attempts"][0]["error"]["code"] == "worker_lost"
    assert [begun(call) for call in provider.calls] == {"continue": ["half "], "rollback": [None], "fail": []}[policy]
    assert story.code == ("worker_lost" if policy == "fail" else None)


@pytest.mark.parametrize("cause", [Drained("The worker was stopped."), LogBehind("Redis has forgotten it.")], ids=repr)
async def test_an_answer_that_was_left_and_must_not_continue_ends_with_the_reason(
    system: System, provider: ControlledProvider, cause: Interrupted
) -> None:
    job_id = await system.submit(ask(on_stream_failure="fail"))
    left = await system.core.begin(job_id, "leaving.1")
    await system.core.append(frames_of(left, 2, "half "))
    assert await system.core.executions.leave(left, cause, costs=False)
    async with running_worker(system.settings, provider):
        story = await system.story(job_id)

    assert (story.text, story.code, story.end["error"]["message"]) == ("half ", cause.code, str(cause))
    assert provider.calls == []


async def test_an_answer_continues_after_the_last_append_of_a_late_writer(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await system.submit()
    late = await system.core.begin(job_id, "late.1")
    await system.core.append(frames_of(late, 2, "a"))
    begin = Executions.begin

    async def write_first(*args: Any, **options: Any) -> Any:
        await system.core.append(frames_of(late, 3, "b"))
        return await begin(*args, **options)

    monkeypatch.setattr(Executions, "begin", write_first)
    async with running_worker(system.settings, provider):
        await answer(provider, 0, "c")
        story = await system.story(job_id)

    assert story.text == "abc"
    assert story.types == ["queued", "started", "delta", "delta", "started", "delta", "completed"]
    assert await system.core.append(frames_of(late, 4, "d")) == ["ended"]


async def test_a_draining_worker_hands_over_in_mid_sentence(system: System, provider: ControlledProvider) -> None:
    hasty = system.settings.model_copy(update={"drain_s": 0.0})
    async with running_worker(hasty, provider) as draining:
        job_id = await system.submit()
        (await provider.call()).say("half ")
        await system.until(job_id, EventType.DELTA)
        draining.drain()
        await draining.stopped()
    async with running_worker(system.settings, provider):
        await answer(provider, 1, "whole.")
        story = await system.story(job_id)
    job = (await system.client.get(f"/v1/jobs/{job_id}")).json()

    assert story.types == ["queued", "started", "delta", "started", "delta", "completed"]
    assert (story.text, begun(provider.calls[1])) == ("half whole.", "half ")
    assert [(each["attempt"], (each["error"] or {}).get("code")) for each in job["attempts"]] == [
        (1, "drain"),
        (1, None),
    ]


async def test_tokens_generated_just_before_a_drain_are_handed_over_too(
    system: System, provider: ControlledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, appending, may_append = ReplayLog.append, asyncio.Event(), asyncio.Event()

    async def append_late(log: ReplayLog, entries: Sequence[Entry]) -> list[AppendAnswer]:
        appending.set()
        await may_append.wait()
        return await append(log, entries)

    monkeypatch.setattr(ReplayLog, "append", append_late)
    async with running_worker(system.settings.model_copy(update={"drain_s": 0.0}), provider) as draining:
        job_id = await system.submit()
        (await provider.call()).say("half ")
        await asyncio.wait_for(appending.wait(), TIMEOUT_S)
        draining.drain()
        await provider.calls[0].until_closed()
        may_append.set()
        await draining.stopped()
    async with running_worker(system.settings, provider):
        await answer(provider, 1, "whole.")
        story = await system.story(job_id)

    assert (story.text, begun(provider.calls[1])) == ("half whole.", "half ")


@pytest.mark.parametrize("by", ["provider", "worker"])
async def test_an_append_only_stream_is_not_started_over(system: System, provider: ControlledProvider, by: str) -> None:
    restarting = system.settings.model_copy(update={"upstream_continuation": Continuation.NONE})
    async with system.client.calling("/v1/chat/completions", ask(stream=True)) as response:
        if by == "provider":
            async with running_worker(restarting, provider):
                await fail_first(provider, "half")
                await response.read_head()
                said = await response.rest()
        else:
            await system.core.queue.wait_for_wake_up(system.core.client, ["default"], TIMEOUT_S)
            taken = await system.core.queue.take(["default"], "dead.1", 0.05)
            assert isinstance(taken, Taken)
            lost = await system.core.begin(taken.job_id, "dead.1")
            await system.core.append(frames_of(lost, 2, "half"))
            async with running_worker(restarting, provider):
                await response.read_head()
                said = await response.rest()

    assert b'"content":"half"' in said
    assert {"provider": b'"code":"provider_unreachable"', "worker": b'"code":"worker_lost"'}[by] in said
    assert b"[DONE]" not in said
    assert len(provider.calls) == (by == "provider")
