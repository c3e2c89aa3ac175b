"""Serve a response of `/v1/responses` to a caller that waits for it: whole, as a stream, and if it fails.

Not here: the events themselves (golden tests), the SDKs' view (tests/clients).
"""

from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused, ProviderTimeout
from shared.model.jobs import KEPT
from tests.support.client import Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide
from tests.support.responses_api import (
    BODY,
    RESPONSES,
    STREAM,
    all_frames,
    at,
    created,
    data_of,
    error_of,
    id_of,
    names,
)
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings, retention_s=3600.0)


async def test_a_whole_response_comes_when_the_job_has_ended(client: Client, writing: JobSide) -> None:
    async with client.calling(RESPONSES, {**BODY, "instructions": "Be brief.", "metadata": {"a": "b"}}) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        assert call.nothing_came()
        await writer.complete()
        await call.read_head()
        answer = await call.whole()

    response = answer.json()
    assert (answer.status, answer.headers["x-tailrace-job"]) == (200, writer.job_id)
    assert (response["id"], response["status"], response["background"]) == (id_of(writer), "completed", False)
    assert response["output"][0]["content"][0]["text"] == "Hello there"
    assert (response["instructions"], response["metadata"]) == ("Be brief.", {"a": "b"})
    assert (await client.get(at(writer))).json() == response


async def test_the_provider_sees_a_chat_request_and_nothing_of_ours(client: Client, writing: JobSide) -> None:
    fields = {"instructions": "Be brief.", "store": True, "max_output_tokens": 20}
    writer = await created(client, writing, **fields)

    _, request = await writing.store.load_with_request(writer.job_id)

    assert request == {
        "model": "scripted",
        "max_completion_tokens": 20,
        "messages": [{"role": "system", "content": "Be brief."}, *PROMPT],
    }
    assert KEPT not in await writing.store.request(writer.job_id)


async def test_a_stream_holds_its_headers_until_the_answer_begins_and_ends_after_the_last_event(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        assert call.nothing_came()
        await writer.say("Hello")
        await call.read_head()
        assert call.headers["content-type"] == "text/event-stream"
        assert call.headers["x-tailrace-job"] == writer.job_id
        first = await call.frames(5)
        await writer.complete()
        rest = await all_frames(call)

    assert names(first) == ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert names(rest) == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [data_of(frame)["sequence_number"] for frame in first + rest] == list(range(9))


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_failure_before_the_answer_is_a_status(client: Client, writing: JobSide, body: dict[str, Any]) -> None:
    async with client.calling(RESPONSES, body) as call:
        writer = await writing.take()
        await writer.fail(ProviderRefused("There is no such model.", code="model_not_found", param="model"))
        await call.read_head()
        answer = await call.whole()

    assert error_of(answer) == (404, "model_not_found", "model")
    assert answer.headers["x-tailrace-job"] == writer.job_id
    retrieved = (await client.get(at(writer))).json()
    assert (retrieved["status"], retrieved["error"]["message"]) == ("failed", "There is no such model.")


async def test_a_failure_in_mid_answer_is_the_streams_last_event(client: Client, writing: JobSide) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.fail(ProviderTimeout("The provider was silent."))
        await call.read_head()
        frames = await all_frames(call)

    last = data_of(frames[-1])
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"] == (await client.get(at(writer))).json()


async def test_a_failure_after_the_headers_went_out_is_an_event_of_the_stream(
    settings: Settings, writing: JobSide
) -> None:
    hasty = settings.model_copy(update={"headers_hold_s": 0.01})
    async with running_gateway(hasty) as gateway, gateway.client.calling(RESPONSES, STREAM) as call:
        await call.read_head()
        assert names([await call.frame()]) == ["created"]
        writer = await writing.take()
        await writer.fail(ProviderTimeout("The provider was silent."))
        assert names(await all_frames(call)) == ["in_progress", "failed"]


async def test_a_foreground_response_ends_if_its_caller_disconnects(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        pushed_on = (await writing.store.load(writer.job_id)).abandon_ms
    await until(lambda: gateway.services.hub.readers == [])
    await gateway.services.viewer_heartbeat.report()

    assert 0 < (await writing.store.load(writer.job_id)).abandon_ms < pushed_on
    answer = await client.post(at(writer, "/cancel"))
    assert error_of(answer) == (400, "invalid_request", None)
