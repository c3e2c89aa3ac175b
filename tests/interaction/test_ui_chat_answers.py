"""Serve an answer of `/api/chat` byte by byte, and report a failure of it in a sentence.

Not here: that `ai` itself reads all this (tests/clients/test_ai_sdk.py).
"""

from typing import Any

import pytest

from gateway.streams.sse import STREAM_HEADERS
from shared.config.settings import Settings
from shared.model.errors import ProviderRefused, ProviderTimeout
from tests.support.client import HEARTBEAT, Client
from tests.support.gateway import running_gateway
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds
from tests.support.ui_chat_api import POST, STOP, STREAM, answer, asked, asks, message, parts


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


# An answer.


async def test_a_stream_has_the_headers_of_a_stream_and_all_parts_of_a_message(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        await call.read_head()
        assert (call.status, call.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")
        assert {name: call.headers[name] for name in STREAM_HEADERS} == STREAM_HEADERS
        assert call.headers["x-tailrace-job"] == writer.job_id
        await writer.complete()
        said = await call.rest()
        assert call.complete
    message_id = "msg_" + writer.job_id.removeprefix("job_")
    assert parts(said) == [
        {"type": "start", "messageId": message_id},
        {"type": "start-step"},
        {"type": "text-start", "id": "text-1"},
        {"type": "text-delta", "id": "text-1", "delta": "Hello"},
        {"type": "text-delta", "id": "text-1", "delta": " there"},
        {"type": "text-end", "id": "text-1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
        "[DONE]",
    ]
    job = (await client.get(f"/v1/jobs/{writer.job_id}")).json()
    assert (job["status"], job["metadata"]) == ("completed", {"chat_id": "c1", "message_id": message_id})


async def test_headers_that_were_held_long_enough_go_out_with_a_heartbeat(settings: Settings, writing: JobSide) -> None:
    brief = settings.model_copy(update={"headers_hold_s": 0.02})
    async with running_gateway(brief) as gateway, gateway.client.calling(POST, asks()) as call:
        writer = await writing.take()
        await call.read_head()
        assert await call.chunk() == HEARTBEAT
        await writer.fail(ProviderRefused("Too many.", code="rate_limit_exceeded"))
        assert parts(await call.rest()) == [{"type": "error", "errorText": "Too many."}]
        assert call.complete


async def test_a_model_that_is_not_named_is_the_first_one(settings: Settings, writing: JobSide) -> None:
    served = settings.model_copy(update={"models": ("scripted", "other")})
    async with running_gateway(served) as gateway:
        body = {name: value for name, value in asks().items() if name != "model"}
        writer = await answer(gateway.client, writing, body, "Hi.")
    assert (await writing.store.load(writer.job_id)).model == "scripted"


async def test_a_request_must_name_a_model_if_none_is_known(client: Client) -> None:
    body = {name: value for name, value in asks().items() if name != "model"}
    refused = await client.post(POST, body)
    assert (refused.status, refused.body) == (400, b"model must be the name of a model.")


async def test_the_system_message_comes_first(client: Client, writing: JobSide) -> None:
    writer = await answer(client, writing, asks(system="Be brief.", temperature=0.5), "Hi.")
    assert await writing.store.request(writer.job_id) == {
        "model": "scripted",
        "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
    }


async def test_an_answer_to_a_tools_result_continues_with_its_message(client: Client, writing: JobSide) -> None:
    call = {"type": "tool-look", "toolCallId": "t1", "state": "output-available", "input": {}, "output": "sunny"}
    history = [message("Weather?"), {"id": "a1", "role": "assistant", "parts": [call]}]
    async with client.calling(POST, asks(*history)) as answering:
        writer = await writing.take()
        await writer.say("Sunny.")
        await writer.complete()
        await answering.read_head()
        said = parts(await answering.rest())
    assert said[0] == {"type": "start", "messageId": "a1"}
    assert [each["role"] for each in await asked(writing, writer)] == ["user", "assistant", "tool"]


# Failures.


async def test_a_failure_before_the_first_word_is_a_status_and_a_sentence(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        await writer.fail(ProviderRefused("Too many \ud83c.", code="rate_limit_exceeded"))
        await call.read_head()
        refused = await call.whole()
    assert (refused.status, refused.body) == (429, "Too many \ufffd.".encode())
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"
    assert refused.headers["x-tailrace-job"] == writer.job_id
    assert refused.headers["retry-after"]


async def test_a_failure_after_a_word_is_an_error_part(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.fail(ProviderTimeout("They say nothing more."))
        await call.read_head()
        assert parts(await call.rest())[-1] == {"type": "error", "errorText": "They say nothing more."}
        assert call.complete


async def test_a_second_attempt_is_not_noticed_before_the_first_word_and_ends_the_answer_after_it(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        first = await writing.take()
        second = await writing.begin(first.job_id)
        await second.say("Hello")
        await call.read_head()
        await call.frames(4)
        await writing.begin(first.job_id)
        assert [part["type"] for part in parts(await call.rest())] == ["error"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (asks(id=""), 400, "id must be"),
        (asks(trigger="x"), 400, "trigger must be"),
        (asks(temperature=0.5, model=5), 400, "model must be"),
        ({"id": "c1"}, 400, "messages must hold"),
    ],
)
async def test_the_error_of_a_bad_request_is_a_sentence(
    client: Client, body: dict[str, Any], status: int, sentence: str
) -> None:
    refused = await client.post(POST, body)
    assert (refused.status, refused.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert refused.body.decode().startswith(sentence)


async def test_other_errors_of_these_addresses_are_sentences_too(client: Client) -> None:
    nobody = client.as_(None)
    for answered, status in (
        (await nobody.post(POST, asks()), 401),
        (await nobody.get(STREAM), 401),
        (await nobody.post(STOP), 401),
        (await client.get(POST), 405),
        (await client.get("/api/nothing"), 404),
        (await client.post(POST, asks(), headers={"X-Tailrace-Lane": "no"}), 400),
    ):
        assert (answered.status, answered.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert answered.body.endswith(b".")
    assert (await client.get(POST)).headers["allow"] == "POST"
    assert (await nobody.get(STREAM)).headers["www-authenticate"] == "Bearer"
