"""Serve `/api/chat` byte by byte: streams, replays, stops, and a chat in which several tabs write.

Not here: that `ai` itself reads all this (tests/clients/test_ai_sdk.py).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from gateway.streams.sse import STREAM_HEADERS
from shared.config.settings import Settings
from shared.model.errors import Cancelled, ProviderRefused, ProviderTimeout
from shared.model.jobs import Job, JobSpec
from shared.store.conversations import Conversations
from tests.support.client import HEARTBEAT, Answer, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import JobSide, LogWriter
from tests.support.system import System, running_system, running_worker

POST = "/api/chat"
STREAM, STOP = "/api/chat/c1/stream", "/api/chat/c1/stop"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Hold headers for longer than any test takes; a test that wants them earlier sets it."""
    return settings.model_copy(update={"headers_hold_s": 60.0, "heartbeat_s": 60.0})


def message(text: str, id_: str = "u1", role: str = "user") -> dict[str, Any]:
    return {"id": id_, "role": role, "parts": [{"type": "text", "text": text}]}


def asks(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the body of `DefaultChatTransport`."""
    history = list(messages) or [message("Hello?")]
    return {"model": "scripted", "id": "c1", "messages": history, "trigger": "submit-message", **fields}


def news(new: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Make the body of an app that sends only the new message."""
    return {"model": "scripted", "id": "c1", "message": new, "trigger": "submit-message", **fields}


def parts(frames: bytes) -> list[Any]:
    """Return the text of frames."""
    payloads = [frame.removeprefix(b"data: ") for frame in frames.split(b"\n\n")[:-1]]
    return ["[DONE]" if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def text_of(frames: bytes) -> str:
    return "".join(part.get("delta", "") for part in parts(frames) if part != "[DONE]")


async def answer(client: Client, writing: JobSide, body: dict[str, Any], *words: str) -> LogWriter:
    """Return a turn, from its question to its end."""
    async with client.calling(POST, body) as call:
        writer = await writing.take()
        await writer.say(*words)
        await writer.complete()
        await call.read_head()
        assert call.status == 200
        assert (await call.rest()).endswith(DONE)
    return writer


async def asked(writing: JobSide, writer: LogWriter) -> Any:
    """Return the messages that the model was asked with."""
    return (await writing.store.request(writer.job_id))["messages"]


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


async def test_where_no_model_is_known_one_must_be_named(client: Client) -> None:
    body = {name: value for name, value in asks().items() if name != "model"}
    refused = await client.post(POST, body)
    assert (refused.status, refused.body) == (400, b"model must be the name of a model.")


async def test_what_the_system_says_comes_first(client: Client, writing: JobSide) -> None:
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
async def test_a_bad_request_is_told_in_a_sentence(
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


# Coming back.


async def test_a_page_that_is_opened_again_gets_the_same_bytes_from_the_first_one(
    client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        before = b"".join(await call.frames(4))
    async with client.stream("GET", STREAM) as again:
        assert (again.status, again.headers["x-tailrace-job"]) == (200, writer.job_id)
        assert b"".join(await again.frames(4)) == before
        await writer.say(" there")
        await writer.complete()
        rest = await again.rest()
    assert text_of(before + rest) == "Hello there"
    assert rest.endswith(DONE)


async def test_a_page_that_is_closed_stops_nothing(gateway: Gateway, client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()):
        writer = await writing.take()
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert (await writing.store.load(writer.job_id)).abandon_ms == 0


async def test_after_the_end_there_is_nothing_to_return_to(client: Client, writing: JobSide) -> None:
    assert (await client.get(STREAM)).status == 204
    assert "x-tailrace-job" not in (await client.get(STREAM)).headers
    await answer(client, writing, asks(), "Hi.")
    again = await client.get(STREAM)
    assert (again.status, again.body) == (204, b"")
    (listed,) = (await client.get("/v1/jobs")).json()["data"]
    assert again.headers["x-tailrace-job"] == listed["id"]
    assert "x-tailrace-job" not in (await client.as_("sk-bob").get(STREAM)).headers


async def test_another_tenants_chat_looks_like_none(client: Client, writing: JobSide) -> None:
    bob = client.as_("sk-bob")
    async with client.calling(POST, asks()):
        writer = await writing.take()
        assert (await bob.get(STREAM)).status == 204
        assert (await bob.post(STOP)).json() == {"success": True}
        assert (await client.request("HEAD", STREAM)).headers["x-tailrace-job"] == writer.job_id


@pytest.mark.parametrize(
    "chat_id",
    ["a/b c", "/", "a/stream", "x/stop", "東京", "🌊", "a\nb\n", "\x00", "%2F?#&", "}:{", "é" * 255],
    ids=lambda text: text[:8].encode("unicode_escape").decode(),
)
async def test_a_chats_id_and_a_messages_may_be_any_text(client: Client, writing: JobSide, chat_id: str) -> None:
    address = f"/api/chat/{quote(chat_id, safe='')}"
    history = [message("Hello?", chat_id), message("Hi.", f"{chat_id[:-1]}!", "assistant")]
    async with client.calling(POST, asks(*history, id=chat_id)) as call:
        writer = await writing.take()
        assert (await client.request("HEAD", f"{address}/stream")).headers["x-tailrace-job"] == writer.job_id
        assert (await client.post(f"{address}/stop", {})).json() == {"success": True}
        await writer.fail(Cancelled.because("cancelled"))
        await call.read_head()
        await call.rest()
    job = (await client.get(f"/v1/jobs/{writer.job_id}")).json()
    assert job["metadata"] == {"chat_id": chat_id, "message_id": history[-1]["id"]}
    assert (await client.get(f"{address}/stream")).headers["x-tailrace-job"] == writer.job_id


async def test_half_a_character_and_a_text_that_is_too_long_are_not_ids(client: Client) -> None:
    for half in (asks(id="a\ud83d"), asks(message("Hello?", "\udfff"))):
        refused = await client.post(POST, half)
        assert (refused.status, refused.body) == (
            400,
            b"The body must be valid Unicode: one of its strings has half of a surrogate pair.",
        )
    refused = await client.get(f"/api/chat/{quote('é' * 256)}/stream")
    assert (refused.status, refused.body) == (400, b"id must be a string of 1 to 255 characters.")


async def test_a_stream_that_must_be_let_go_never_ends_properly(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(4)
        (reader,) = gateway.services.hub.readers
        reader.break_off("We close.")
        assert parts(await call.rest()) == [{"type": "error", "errorText": "We close."}]
        assert call.complete is False


async def test_a_call_that_must_be_let_go_before_its_headers_is_told_to_return(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        await writing.take()
        await until(lambda: bool(gateway.services.hub.readers))
        gateway.services.hub.readers[0].break_off("We close.")
        await call.read_head()
        refused = await call.whole()
    assert (refused.status, refused.body, refused.headers["retry-after"]) == (503, b"We close.", "2")


async def test_an_answer_that_redis_forgot_is_told_to_return(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()) as call:
        keys = writing.keys.job((await writing.take()).job_id)
        await writing.client.delete(keys.record, keys.log, keys.request)
        await call.read_head()
        assert (await call.whole()).status == 503


# Stopping.


@pytest.fixture
async def provider() -> ControlledProvider:
    """Return a provider that says the text of its test."""
    return ControlledProvider()


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway with stored state that can be read."""
    async with running_system(settings) as running:
        yield running


async def test_a_stop_closes_the_upstream_and_aborts_the_stream(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    client = system.client
    async with running_worker(settings, provider), client.calling(POST, asks()) as call:
        upstream = await provider.call()
        upstream.say("Hello")
        await call.read_head()
        await call.frames(4)
        stopped = await client.post(STOP, {"activeStreamId": None, "assistantMessage": {}})
        assert (stopped.status, stopped.json()) == (200, {"success": True})
        await upstream.until_closed()
        assert [part if part == "[DONE]" else part["type"] for part in parts(await call.rest())] == [
            "text-end",
            "abort",
            "[DONE]",
        ]
        assert call.complete
        assert (await client.get(STREAM)).status == 204
        assert (await client.post(STOP)).json() == {"success": True}


async def test_a_stop_before_the_first_word_is_no_failure(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()) as call:
        writer = await writing.take()
        stopping = asyncio.create_task(client.post(STOP))
        await until_cancelled(writing, writer)
        await writer.fail(Cancelled.because("cancelled"))
        assert (await stopping).json() == {"success": True}
        await call.read_head()
        assert (call.status, parts(await call.rest())) == (200, [{"type": "abort"}, "[DONE]"])


async def test_a_stop_for_an_answer_that_is_over_does_not_touch_the_next_one(client: Client, writing: JobSide) -> None:
    first = await answer(client, writing, asks(), "Hi.")
    async with client.calling(POST, asks()):
        second = await writing.take()
        assert (await client.post(STOP, {"activeStreamId": first.job_id})).json() == {"success": True}
        assert (await writing.store.load(second.job_id)).status.value == "running"
        assert (await client.request("HEAD", STREAM)).headers["x-tailrace-job"] == second.job_id


async def test_a_stop_must_name_an_answer_by_a_text(client: Client) -> None:
    refused = await client.post(STOP, {"activeStreamId": 5})
    assert (refused.status, refused.body.decode()) == (
        400,
        "activeStreamId must be the job id in the header x-tailrace-job of the answer.",
    )


# Several turns, and several tabs.


async def until_cancelled(writing: JobSide, writer: LogWriter) -> None:
    async with asyncio.timeout(5):
        while (await writing.store.load(writer.job_id)).status.value != "cancelling":
            pass


async def test_the_last_of_two_tabs_is_answered_and_the_other_one_is_told(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks(message("One?"))) as one:
        first = await writing.take()
        await first.say("Hello")
        await one.read_head()
        await one.frames(4)
        async with client.calling(POST, asks(message("Two?"))) as two:
            second = await writing.take()
            await until_cancelled(writing, first)
            await first.fail(Cancelled.because("cancelled"))
            assert parts(await one.rest())[-2:] == [{"type": "abort"}, "[DONE]"]
            await second.say("Two.")
            await second.complete()
            await two.read_head()
            assert text_of(await two.rest()) == "Two."


async def test_only_what_is_new_may_be_sent(client: Client, writing: JobSide) -> None:
    await answer(client, writing, news(message("One?")), "One", ".")
    second = await answer(client, writing, news(message("Two?", "u2")), "Two.")
    third = await answer(client, writing, news(message("Three?", "u3")), "Three.")
    assert await asked(writing, second) == [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Two?"},
    ]
    assert [each["content"] for each in await asked(writing, third)] == ["One?", "One.", "Two?", "Two.", "Three?"]


async def test_the_thoughts_that_led_to_words_are_kept_with_them(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, news(message("One?"))) as call:
        writer = await writing.take()
        await writer.say({"reasoning_content": "Hm."}, {"content": "One."})
        await writer.complete()
        await call.read_head()
        await call.rest()
    second = await answer(client, writing, news(message("Two?", "u2")), "Two.")
    assert (await asked(writing, second))[1] == {
        "role": "assistant",
        "content": "One.",
        "reasoning_content": "Hm.",
    }


async def test_a_conversation_in_the_form_of_an_earlier_version_continues(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, news(message("One?"))) as call:
        writer = await writing.take()
        await writer.say({"content": [{"type": "text", "text": "O"}]}, {"tool_calls": [None]}, {"content": "ne."})
        await writer.complete()
        await call.read_head()
        assert text_of(await call.rest()) == "ne."
    second = await answer(client, writing, news(message("Two?", "u2")), "Two.")
    assert [each["content"] for each in await asked(writing, second)] == ["One?", "ne.", "Two?"]


async def test_a_call_keeps_the_state_of_its_upstream_on_the_way_through_the_page(
    client: Client, writing: JobSide
) -> None:
    signature = {"google": {"thought_signature": "s"}}
    first = {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    async with client.calling(POST, news(message("Weather?"))) as call:
        writer = await writing.take()
        await writer.say({"reasoning_content": "I must look."}, {"tool_calls": [{**first, "extra_content": signature}]})
        await writer.complete()
        await call.read_head()
        made = parts(await call.rest())
    (available,) = [part for part in made if part != "[DONE]" and part["type"] == "tool-input-available"]
    done = {"type": "tool-look", "toolCallId": "t1", "state": "output-available", "input": {}, "output": "sunny"}
    shown = [
        {"type": "reasoning", "text": "I must look."},
        {**done, "callProviderMetadata": available["providerMetadata"]},
    ]
    page = {"id": made[0]["messageId"], "role": "assistant", "parts": shown}
    second = await answer(client, writing, news(page), "Sunny.")
    assert (await asked(writing, second))[1:] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I must look.",
            "tool_calls": [{**{name: first[name] for name in ("id", "type", "function")}, "extra_content": signature}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
    ]


async def test_a_whole_history_may_be_followed_by_what_is_new(client: Client, writing: JobSide) -> None:
    history = [message("One?"), message("One.", "a1", "assistant"), message("Two?", "u2")]
    await answer(client, writing, asks(*history, system="Be brief."), "Two.")
    writer = await answer(client, writing, news(message("Three?", "u3"), system="Be long."), "Three.")
    said = [each["content"] for each in await asked(writing, writer)]
    assert said == ["Be long.", "One?", "One.", "Two?", "Two.", "Three?"]


async def test_an_answer_may_be_asked_for_anew(client: Client, writing: JobSide) -> None:
    await answer(client, writing, news(message("One?")), "One.")
    again = news(message("One?"), trigger="regenerate-message", messageId="whatever")
    writer = await answer(client, writing, again, "Uno.")
    assert await asked(writing, writer) == [{"role": "user", "content": "One?"}]


async def test_what_was_said_before_a_stop_was_said(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, news(message("One?"))) as call:
        first = await writing.take()
        await first.say("On")
        await call.read_head()
        stopping = asyncio.create_task(client.post(STOP))
        await until_cancelled(writing, first)
        await first.fail(Cancelled.because("cancelled"))
        await stopping
    second = await answer(client, writing, news(message("Two?", "u2")), "Two.")
    assert [each["content"] for each in await asked(writing, second)] == ["One?", "On", "Two?"]


async def test_a_conversation_of_which_the_words_are_gone_must_be_sent_whole(client: Client, writing: JobSide) -> None:
    first = await answer(client, writing, news(message("One?")), "One.")
    await writing.client.delete(writing.keys.job(first.job_id).record)
    refused = await client.post(POST, news(message("Two?", "u2")))
    assert (refused.status, refused.body.decode()) == (
        400,
        "messages must hold the whole conversation: its earlier messages are no longer stored.",
    )
    await answer(client, writing, asks(message("Two?", "u2")), "Two.")


async def test_a_conversation_of_which_the_last_job_was_deleted_must_be_sent_whole(
    client: Client, writing: JobSide
) -> None:
    first = await answer(client, writing, news(message("One?")), "One.")
    response = first.job_id.replace("job_", "resp_")
    assert (await client.request("DELETE", f"/v1/responses/{response}")).status == 200
    assert (await client.post(POST, news(message("Two?", "u2")))).status == 400


async def test_a_conversation_that_has_grown_too_large_is_refused(settings: Settings, writing: JobSide) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1024})
    async with running_gateway(small) as gateway:
        await answer(gateway.client, writing, news(message("One?")), "x" * 1000)
        refused = await gateway.client.post(POST, news(message("Two?", "u2")))
    assert (refused.status, refused.body) == (413, b"A conversation may have at most 1024 bytes; start a new one.")


async def test_a_turn_that_is_refused_leaves_the_one_before_alone(settings: Settings, writing: JobSide) -> None:
    shallow = settings.model_copy(update={"max_depth": 1})
    async with running_gateway(shallow) as gateway, gateway.client.calling(POST, asks()):
        first = await writing.take()
        assert (await gateway.client.post("/v1/jobs", {"model": "scripted", "messages": [MESSAGE]})).status == 202
        assert (await gateway.client.post(POST, asks())).status == 429
        assert (await gateway.client.request("HEAD", STREAM)).headers["x-tailrace-job"] == first.job_id


MESSAGE = {"role": "user", "content": "Hello?"}


@pytest.mark.parametrize("whole", [True, False])
async def test_of_tabs_that_write_at_once_one_is_answered_and_no_job_is_left_unseen(
    settings: Settings, system: System, provider: ControlledProvider, *, whole: bool
) -> None:
    async def tab(number: int) -> Answer:
        new = message(f"Tab {number}?", f"u{number}")
        return await system.client.post(POST, asks(new) if whole else news(new))

    async with running_worker(settings, provider):
        tabs = {asyncio.create_task(tab(number)) for number in range(4)}
        async with asyncio.timeout(5):
            while len(tabs) > 1:
                ended, tabs = await asyncio.wait(tabs, return_when=asyncio.FIRST_COMPLETED)
                assert {(each.result().status, each.result().body) for each in ended} == {(200, ABORTED)}
        assert (await system.client.request("HEAD", STREAM)).status == 200
        assert await statuses(system) in (["cancelled"] * 3 + ["running"], ["cancelled"] * 3 + ["queued"])
        await system.client.post(STOP)
        assert (await tabs.pop()).body == ABORTED
        assert await statuses(system) == ["cancelled"] * 4
    assert await system.core.client.hget(system.core.keys.conversation("alice", "c1"), "next") is None  # type: ignore[misc]


ABORTED = b'data: {"type":"abort"}\n\n' + DONE


async def statuses(system: System) -> list[str]:
    return sorted(job["status"] for job in (await system.client.get("/v1/jobs")).json()["data"])


async def test_a_stop_that_comes_before_the_job_is_recorded_ends_it(
    gateway: Gateway, client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = gateway.services.admission.submit

    async def submit_after_a_stop(spec: JobSpec) -> Job:
        assert (await client.post(STOP)).json() == {"success": True}
        return await submit(spec)

    monkeypatch.setattr(gateway.services.admission, "submit", submit_after_a_stop)
    assert (await client.post(POST, asks())).body == ABORTED


async def test_a_job_whose_gateway_died_on_the_way_is_found_and_superseded(client: Client, writing: JobSide) -> None:
    lost = await writing.create()
    chats = Conversations(writing.client, writing.keys, retention_s=60)
    await chats.begin("alice", "c1", lost, last=None, whole=True, timeout_s=30)
    await answer(client, writing, asks(), "Hi.")
    assert (await writing.store.load(lost)).status.value == "cancelled"
