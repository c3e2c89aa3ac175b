"""Replay an answer of `/api/chat` to a page that is opened again, and break it off so that the page can return."""

from urllib.parse import quote

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from tests.support.client import Client
from tests.support.gateway import Gateway, until
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds
from tests.support.ui_chat_api import DONE, POST, STOP, STREAM, answer, asks, message, parts, text_of


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


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


async def test_a_stream_requested_after_the_end_is_a_204(client: Client, writing: JobSide) -> None:
    assert (await client.get(STREAM)).status == 204
    assert "x-tailrace-job" not in (await client.get(STREAM)).headers
    await answer(client, writing, asks(), "Hi.")
    again = await client.get(STREAM)
    assert (again.status, again.body) == (204, b"")
    (listed,) = (await client.get("/v1/jobs")).json()["data"]
    assert again.headers["x-tailrace-job"] == listed["id"]
    assert "x-tailrace-job" not in (await client.as_("sk-bob").get(STREAM)).headers


async def test_another_tenants_chat_answers_like_an_unknown_one(client: Client, writing: JobSide) -> None:
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


async def test_a_stream_that_the_gateway_breaks_off_never_ends_properly(
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


async def test_a_call_broken_off_before_its_headers_gets_a_time_to_retry(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with client.calling(POST, asks()) as call:
        await writing.take()
        await until(lambda: bool(gateway.services.hub.readers))
        gateway.services.hub.readers[0].break_off("We close.")
        await call.read_head()
        refused = await call.whole()
    assert (refused.status, refused.body, refused.headers["retry-after"]) == (503, b"We close.", "2")


async def test_a_call_whose_job_redis_lost_is_a_503(client: Client, writing: JobSide) -> None:
    async with client.calling(POST, asks()) as call:
        keys = writing.keys.job((await writing.take()).job_id)
        await writing.client.delete(keys.record, keys.log, keys.request)
        await call.read_head()
        assert (await call.whole()).status == 503
