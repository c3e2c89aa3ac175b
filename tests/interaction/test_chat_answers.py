"""Serve an answer of `/v1/chat/completions` byte by byte, whole and as a stream, and hold its headers until it begins.

Not here: the format itself (golden tests, SDKs).
"""

import pytest

from shared.config.settings import Settings
from tests.support.chat_api import BODY, CHAT, DONE, STREAM, calling, content, error_in, reader_at
from tests.support.client import HEARTBEAT, Client
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


# An answer.


async def test_a_stream_has_the_headers_of_a_stream_and_ends_after_done(client: Client, writing: JobSide) -> None:
    async with calling(client, STREAM, headers={"X-Request-Id": "mine"}) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        await call.read_head()
        assert call.status == 200
        assert call.headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
            "x-tailrace-job": writer.job_id,
            "x-request-id": "mine",
            "transfer-encoding": "chunked",
        }
        assert [content(frame) for frame in await call.frames(3)] == ["", "Hello", " there"]
        await writer.complete()
        assert b'"finish_reason":"stop"' in await call.frame()
        assert await call.frame() == DONE
        assert await call.frame() == b""
        assert call.complete


async def test_a_whole_answer_comes_when_the_job_has_ended(client: Client, writing: JobSide) -> None:
    async with calling(client, BODY) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        assert call.nothing_came()
        await writer.complete()
        await call.read_head()
        answer = await call.whole()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-tailrace-job"] == writer.job_id
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there"
    assert answer.json()["id"] == "chatcmpl-" + writer.job_id.removeprefix("job_")


async def test_a_call_is_an_ordinary_job_that_can_be_read_natively_meanwhile(client: Client, writing: JobSide) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        async with client.stream("GET", f"/v1/jobs/{writer.job_id}/events") as native:
            await writer.say("Hello")
            await writer.complete()
            assert [event.type for event in await native.events()] == ["queued", "started", "delta", "completed"]
        await call.read_head()
        assert (await call.rest()).endswith(DONE)
    assert (await client.get(f"/v1/jobs/{writer.job_id}")).json()["status"] == "completed"
    assert (await client.as_("sk-bob").get(f"/v1/jobs/{writer.job_id}")).status == 404


async def test_no_half_of_a_character_gets_into_the_log_or_an_answer(client: Client, writing: JobSide) -> None:
    async with calling(client, BODY) as call:
        writer = await writing.take()
        await writer.say("a \ud83c", "\udf0a b")
        await writer.complete()
        await call.read_head()
        assert (await call.whole()).json()["choices"][0]["message"]["content"] == "a \ufffd\ufffd b"


# When the headers go out.


async def test_the_headers_of_a_stream_are_held_until_its_first_delta(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        reader = await reader_at(gateway, writer.last)
        reader.heartbeat()
        reader.heartbeat()  # not even a heartbeat lets them go
        await until(lambda: not reader.heartbeat_due)
        assert call.nothing_came()
        await writer.say("Hello")
        await call.read_head()
        assert content(await call.frame()) == ""
        assert content(await call.frame()) == "Hello"


async def test_headers_that_were_held_long_enough_go_out_with_a_heartbeat(settings: Settings, writing: JobSide) -> None:
    brief = settings.model_copy(update={"headers_hold_s": 0.02})
    async with running_gateway(brief) as gateway, calling(gateway.client, STREAM) as call:
        writer = await writing.take()
        await call.read_head()
        assert call.status == 200
        assert await call.chunk() == HEARTBEAT
        await writer.say("Hello")
        await writer.complete()
        assert [content(frame) for frame in await call.frames(2)] == ["", "Hello"]
        assert (await call.rest()).endswith(DONE)
        assert call.complete


async def test_a_silent_stream_gets_heartbeats_once_its_headers_are_out(settings: Settings, writing: JobSide) -> None:
    quick = settings.model_copy(update={"headers_hold_s": 0.0, "heartbeat_s": 0.01})
    async with running_gateway(quick) as gateway, calling(gateway.client, STREAM) as call:
        writer = await writing.take()
        await call.read_head()
        for _ in range(2):
            await call.heartbeat()
        await writer.say("Hello")
        assert [content(frame) for frame in await call.frames(2)] == ["", "Hello"]


# Idempotency.


async def test_a_repeated_call_gets_the_whole_answer_of_the_same_job(client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    async with calling(client, STREAM, headers=key) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        await call.read_head()
        await call.frame()
    async with calling(client, STREAM, headers=key) as again:
        await writer.complete()
        await again.read_head()
        assert again.headers["x-tailrace-job"] == writer.job_id
        assert [content(frame) for frame in await again.frames(3)] == ["", "Hello", " there"]
    other = await client.post(CHAT, {**STREAM, "temperature": 1}, headers=key)
    assert (other.status, error_in(other.body)["param"]) == (422, "Idempotency-Key")
    assert other.headers.get("x-should-retry") is None
