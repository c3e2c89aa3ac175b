"""Continue a chat of `/api/chat` over several turns, and from several tabs at once."""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from shared.store.conversations import Conversations
from tests.support.client import Answer, Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import running_gateway
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds
from tests.support.system import System, running_worker
from tests.support.ui_chat_api import (
    ABORTED,
    POST,
    STOP,
    STREAM,
    answer,
    asked,
    asks,
    message,
    news,
    parts,
    text_of,
    until_cancelled,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


async def test_the_last_of_two_tabs_is_answered_and_the_other_one_is_aborted(client: Client, writing: JobSide) -> None:
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


async def test_a_page_may_send_only_its_new_message(client: Client, writing: JobSide) -> None:
    await answer(client, writing, news(message("One?")), "One", ".")
    second = await answer(client, writing, news(message("Two?", "u2")), "Two.")
    third = await answer(client, writing, news(message("Three?", "u3")), "Three.")
    assert await asked(writing, second) == [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Two?"},
    ]
    assert [each["content"] for each in await asked(writing, third)] == ["One?", "One.", "Two?", "Two.", "Three?"]


async def test_reasoning_is_kept_with_its_text(client: Client, writing: JobSide) -> None:
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


async def test_a_new_message_alone_may_follow_a_whole_history(client: Client, writing: JobSide) -> None:
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


async def test_text_before_a_stop_stays_in_the_conversation(client: Client, writing: JobSide) -> None:
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


async def test_a_conversation_with_a_missing_job_must_be_sent_whole(client: Client, writing: JobSide) -> None:
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
async def test_one_of_several_concurrent_tabs_is_answered_and_no_job_is_left_over(
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


async def statuses(system: System) -> list[str]:
    return sorted(job["status"] for job in (await system.client.get("/v1/jobs")).json()["data"])


async def test_a_job_whose_gateway_died_on_the_way_is_found_and_superseded(client: Client, writing: JobSide) -> None:
    lost = await writing.create()
    chats = Conversations(writing.client, writing.keys, retention_s=60)
    await chats.begin("alice", "c1", lost, last=None, whole=True, timeout_s=30)
    await answer(client, writing, asks(), "Hi.")
    assert (await writing.store.load(lost)).status.value == "cancelled"
