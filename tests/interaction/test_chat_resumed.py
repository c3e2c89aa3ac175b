"""Serve a chat to a caller that returns to it, from the chunk after the last one that it has."""

from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.chat_api import BODY, CHAT, DONE, STREAM, abandoned_in_s, calling, content, error_in
from tests.support.client import Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide, LogWriter
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


async def cut_off(client: Client, writing: JobSide, *, frames: int, **options: Any) -> tuple[LogWriter, bytes, str]:
    """Cut a call off after so many frames; return its job, the frames, and the id of the last chunk."""
    async with calling(client, STREAM, **options) as call:
        writer = await writing.take()
        await writer.say("Hello", " there")
        await call.read_head()
        before = b"".join(await call.frames(frames))
    return writer, before, before.rpartition(b"\nid: ")[2].decode().strip()


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("way", ["query", "header"])
async def test_a_caller_that_was_cut_off_gets_exactly_the_rest(
    settings: Settings, writing: JobSide, frames: int, way: str
) -> None:
    long_waits = settings.model_copy(update={"disconnect_grace_s": 20.0})
    async with running_gateway(long_waits) as gateway:
        client = gateway.client
        writer, before, cursor = await cut_off(client, writing, frames=frames)
        target = f"{CHAT}/chatcmpl-{writer.job_id.removeprefix('job_')}?stream=true"
        await writer.say("!")
        await writer.complete()
        if way == "query":
            again = await client.get(f"{target}&starting_after={cursor}")
        else:
            again = await client.get(target, headers={"Last-Event-ID": cursor})
        whole = await client.get(target)
    assert (again.status, again.headers["x-tailrace-job"]) == (200, writer.job_id)
    assert again.headers["content-type"] == "text/event-stream"
    assert before + again.body == whole.body
    assert whole.body.endswith(DONE)


async def test_a_caller_that_returns_keeps_the_job_alive(settings: Settings, writing: JobSide) -> None:
    long_waits = settings.model_copy(update={"disconnect_grace_s": 20.0})
    async with running_gateway(long_waits) as gateway:
        writer, _, cursor = await cut_off(gateway.client, writing, frames=2)
        await gateway.services.hub.emptied()
        await gateway.services.viewer_heartbeat.report()
        assert 0 < await abandoned_in_s(writing, writer) <= 20
        target = f"{CHAT}/{writer.job_id}?stream=true&starting_after={cursor}"
        async with gateway.client.stream("GET", target) as again:
            assert content(await again.frame()) == " there"
            assert await abandoned_in_s(writing, writer) > 20
            await writer.complete()
            assert (await again.rest()).endswith(DONE)


async def test_an_answer_may_continue_without_its_caller(gateway: Gateway, client: Client, writing: JobSide) -> None:
    asked = {"X-Tailrace-On-Disconnect": "continue"}
    writer, _, _ = await cut_off(client, writing, frames=2, headers=asked)
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert (await writing.store.load(writer.job_id)).abandon_ms == 0
    await writer.complete()
    whole = await client.get(f"{CHAT}/{writer.job_id}")
    assert whole.json()["choices"][0]["message"]["content"] == "Hello there"


async def test_the_policy_on_a_disconnect_is_one_of_two_words(client: Client) -> None:
    refused = await client.post(CHAT, BODY, headers={"X-Tailrace-On-Disconnect": "maybe"})
    assert (refused.status, error_in(refused.body)["param"]) == (400, "X-Tailrace-On-Disconnect")


async def test_a_caller_that_returns_gets_the_usage_that_it_asked_for(client: Client, writing: JobSide) -> None:
    async with calling(client, {**STREAM, "n": 2, "stream_options": {"include_usage": True}}) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.complete()
        await call.read_head()
        first = await call.rest()
    again = await client.get(f"{CHAT}/{writer.job_id}?stream=true")
    assert again.body == first
    assert b'"usage":{' in first


async def test_a_native_job_that_was_read_as_a_chat_continues_without_readers(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    job_id = (await client.post("/v1/jobs", BODY)).json()["id"]
    writer = await writing.take()
    await writer.say("Hello")
    async with client.stream("GET", f"{CHAT}/{job_id}?stream=true") as chat:
        assert content(await chat.frame()) == ""
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert (await writing.store.load(job_id)).abandon_ms == 0


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=yes", "stream"),
        ("?starting_after=1-1", "starting_after"),
        ("?stream=true&starting_after=17", "starting_after"),
        ("?stream=true&starting_after=9-9", "starting_after"),
    ],
)
async def test_a_cursor_that_is_malformed_or_misplaced_is_refused(
    client: Client, writing: JobSide, query: str, param: str
) -> None:
    writer = await writing.started()
    refused = await client.get(f"{CHAT}/{writer.job_id}{query}")
    assert (refused.status, error_in(refused.body)["param"]) == (400, param)


async def test_a_cursor_that_the_log_does_not_hold_is_an_error_status(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("Hello")
    await writer.complete()
    gone = await client.get(f"{CHAT}/{writer.job_id}?stream=true&starting_after=0-7")
    assert (gone.status, error_in(gone.body)["code"]) == (500, "gap")


async def test_a_head_request_opens_no_stream(gateway: Gateway, client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    answer = await client.request("HEAD", f"{CHAT}/{writer.job_id}?stream=true")
    assert (answer.status, answer.headers["x-tailrace-job"]) == (200, writer.job_id)
    assert gateway.services.hub.readers == []


async def test_another_tenants_completion_answers_like_an_unknown_one(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    name = "chatcmpl-" + writer.job_id.removeprefix("job_")
    others = [await client.as_("sk-bob").get(f"{CHAT}/{name}"), await client.get(f"{CHAT}/chatcmpl-x")]
    assert [each.status for each in others] == [404, 404]
    assert error_in(others[0].body)["message"] == f"There is no chat completion {name}."
