"""Serve a background response: its statuses, its streams from each cursor, and how a stream of it may end.

Not here: cancelling and deleting it (test_responses_cancel_delete.py).
"""

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from tests.support.client import HEARTBEAT, Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide
from tests.support.responses_api import (
    BACKGROUND,
    BODY,
    BOTH,
    RESPONSES,
    all_frames,
    answered,
    at,
    created,
    data_of,
    error_of,
    names,
    streaming,
)
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings, retention_s=3600.0)


async def test_a_background_response_is_there_at_once_and_goes_through_its_statuses(
    client: Client, writing: JobSide
) -> None:
    answer = await client.post(RESPONSES, BACKGROUND)
    assert answer.status == 200
    target = f"{RESPONSES}/{answer.json()['id']}"
    statuses = [answer.json()["status"], (await client.get(target)).json()["status"]]
    writer = await writing.take()
    statuses.append((await client.get(target)).json()["status"])
    await writer.say("Hello")
    assert (await client.get(target)).json()["output"] == []
    await writer.complete("length")
    last = (await client.get(target)).json()

    assert [*statuses, last["status"]] == ["queued", "queued", "in_progress", "incomplete"]
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["output"][0]["content"][0]["text"] == "Hello"


async def test_a_background_response_runs_on_without_readers_and_each_gets_the_rest_later(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, BOTH) as call:
        await call.read_head()
        seen = [await call.frame()]
        assert names(seen) == ["created"]
    await until(lambda: gateway.services.hub.readers == [])
    writer = await writing.take()
    await writer.say("Hello")
    async with streaming(client, at(writer), 0) as again:
        seen += await again.frames(4)
    await writer.say(" there")
    await writer.complete()
    async with streaming(client, at(writer), 4) as last:
        seen += await all_frames(last)
    async with streaming(client, at(writer)) as replay:
        assert await all_frames(replay) == seen

    assert (await writing.store.load(writer.job_id)).abandon_ms == 0
    assert data_of(seen[-1])["response"]["output"][0]["content"][0]["text"] == "Hello there"


async def test_headers_of_a_background_stream_go_out_at_once_and_its_failure_is_an_event(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(RESPONSES, BOTH) as call:
        await call.read_head()
        assert names(await call.frames(2)) == ["created", "queued"]
        writer = await writing.take()
        await writer.fail(ProviderRefused("There is no such model.", code="model_not_found"))
        assert names(await all_frames(call)) == ["in_progress", "failed"]


async def test_two_readers_get_the_same_whether_it_was_created_as_a_stream_or_not(
    client: Client, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as one, streaming(client, at(writer)) as other:
        first = await one.frames(3)
        await writer.say("Hello")
        await writer.complete()
        assert first + await all_frames(one) == await all_frames(other)


@pytest.mark.parametrize("after", [9, 10, 10**14])
async def test_nothing_after_the_last_event_is_an_empty_stream_that_ends(
    client: Client, writing: JobSide, after: int
) -> None:
    writer = await answered(client, writing, "Hello")

    async with streaming(client, at(writer), after) as stream:
        assert await all_frames(stream) == []
        assert stream.heartbeats == 0


async def test_a_worker_that_is_lost_before_the_answer_began_is_not_noticed(client: Client, writing: JobSide) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        await stream.frames(3)
        writer = await writing.begin(writer.job_id)
        await writer.say("Hello")
        await writer.complete()
        assert names(await all_frames(stream))[-1] == "completed"


async def test_a_worker_that_is_lost_in_mid_answer_ends_the_stream_with_an_error_and_not_the_response(
    client: Client, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        await writer.say("Hel")
        writer = await writing.begin(writer.job_id)
        frames = await all_frames(stream)
    await writer.say("Good day")
    await writer.complete()

    assert names(frames)[-1] == "error"
    async with streaming(client, at(writer)) as replay:
        assert await all_frames(replay) == frames
    retrieved = (await client.get(at(writer))).json()
    assert (retrieved["status"], retrieved["output"][0]["content"][0]["text"]) == ("completed", "Good day")


async def test_the_same_idempotency_key_is_the_same_response(client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "one"}
    first = await client.post(RESPONSES, BACKGROUND, headers=key)
    again = await client.post(RESPONSES, BACKGROUND, headers=key)
    other = await client.post(RESPONSES, {**BACKGROUND, "input": "Hi"}, headers=key)

    assert first.json() == again.json()
    assert error_of(other)[:2] == (422, "idempotency_conflict")


async def test_a_draining_gateway_breaks_off_resumable_readers_and_refuses_new_ones(
    client: Client, gateway: Gateway, writing: JobSide
) -> None:
    writer = await created(client, writing)
    async with streaming(client, at(writer)) as stream:
        *_, last = await stream.frames(3)
        gateway.services.draining = True
        (reader,) = gateway.services.hub.readers
        assert reader.resumable
        reader.break_off("This gateway is shutting down.")
        error = data_of(await stream.frame())
        assert (error["type"], error["code"]) == ("error", "unavailable")
        # The error is not part of the stream: the events behind the last one follow the error too.
        assert error["sequence_number"] == data_of(last)["sequence_number"]
        assert await stream.frame() == b""
        assert stream.complete is False
    for answer in (await client.post(RESPONSES, BODY), await client.get(at(writer, "?stream=true"))):
        assert error_of(answer)[:2] == (503, "draining")
    assert (await client.get(at(writer))).json()["status"] == "in_progress"


async def test_silent_streams_have_heartbeats(settings: Settings, writing: JobSide) -> None:
    async with running_gateway(settings.model_copy(update={"heartbeat_s": 0.05})) as gateway:
        writer = await created(gateway.client, writing)
        async with streaming(gateway.client, at(writer), 2) as stream:
            await stream.heartbeat()
            assert stream.sends[0] == HEARTBEAT
