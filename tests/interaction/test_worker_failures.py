"""Run a job through the worker whose provider fails, answers with malformed values, or takes too long."""

import math
from typing import Any

import pytest

from shared.model.bounds import USAGE_BYTES
from shared.model.errors import is_request_fault
from tests.support.controlled_provider import ControlledProvider, chunk_of
from tests.support.system import System, running_worker
from tests.support.upstream import ask as scripted
from tests.support.upstream import running_upstream

SOON_S = 0.3


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
async def test_a_choice_index_is_valid_up_to_127(system: System, index: int, code: str | None) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        job_id = await system.submit()
        call = await provider.call()
        call.send(chunk_of({"content": "x"}, "stop", index))
        call.stop()
        story = await system.story(job_id)

    assert story.code == code
    assert code or len(story.end["finish_reasons"]) == index + 1


async def test_malformed_usage_does_not_spoil_a_whole_answer(system: System) -> None:
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
