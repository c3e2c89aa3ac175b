"""Cancel a response, and delete it: what becomes of its job, its open streams and its idempotency key."""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from tests.support.client import TIMEOUT_S, Client
from tests.support.log_writer import JobSide, LogWriter
from tests.support.responses_api import (
    BACKGROUND,
    RESPONSES,
    all_frames,
    answered,
    at,
    created,
    data_of,
    error_of,
    id_of,
    names,
    streaming,
)
from tests.support.short_settings import with_long_holds


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings, retention_s=3600.0)


async def test_cancelling_ends_open_streams_and_is_idempotent(client: Client, writing: JobSide) -> None:
    writer = await created(client, writing)
    await writer.say("Hel")
    async with streaming(client, at(writer)) as stream:
        await stream.frames(6)
        async with client.calling(at(writer, "/cancel"), None) as cancelling:
            await until_cancelling(writing, writer)
            assert (await client.get(at(writer))).json()["status"] == "cancelled"
            await writer.fail(Cancelled.because("cancelled"))
            await cancelling.read_head()
            answer = await cancelling.whole()
        frames = await all_frames(stream)
    again = await client.post(at(writer, "/cancel"))

    last = data_of(frames[-1])
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert answer.status == again.status == 200
    assert answer.json() == again.json() == last["response"] == (await client.get(at(writer))).json()
    assert answer.json()["output"][0]["content"][0]["text"] == "Hel"


async def until_cancelling(writing: JobSide, writer: LogWriter) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await writing.store.load(writer.job_id)).status.value != "cancelling":
            pass


async def test_a_response_that_waits_is_cancelled_at_once(client: Client) -> None:
    response = (await client.post(RESPONSES, BACKGROUND)).json()

    answer = await client.post(f"{RESPONSES}/{response['id']}/cancel")

    assert (answer.status, answer.json()["status"], answer.json()["output"]) == (200, "cancelled", [])


async def test_cancelling_a_complete_response_changes_nothing(client: Client, writing: JobSide) -> None:
    writer = await answered(client, writing, "Hello")

    answer = await client.post(at(writer, "/cancel"))

    assert (answer.status, answer.json()["status"]) == (200, "completed")


async def test_a_deleted_response_is_a_404_in_each_dialect(client: Client, writing: JobSide) -> None:
    writer = await answered(client, writing, "Hello")

    answer = await client.request("DELETE", at(writer))

    assert (answer.status, answer.json()) == (200, {"id": id_of(writer), "object": "response", "deleted": True})
    assert await writing.client.keys(f"*{{{writer.job_id}}}*") == []  # the worker clears the queue's entry
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        gone = await client.request(method, at(writer, rest))
        assert error_of(gone)[:2] == (404, "response_not_found")
    assert (await client.get(f"/v1/jobs/{writer.job_id}")).status == 404


async def test_deleting_a_running_response_hides_it_cancels_it_and_ends_its_streams(
    client: Client, writing: JobSide
) -> None:
    writer = await created(client, writing)
    link = (await client.get(f"/v1/jobs/{writer.job_id}")).json()["links"]["events"]
    async with streaming(client, at(writer)) as stream:
        await stream.frames(3)
        assert (await client.request("DELETE", at(writer))).status == 200
        for target in (at(writer), f"/v1/jobs/{writer.job_id}", link):
            assert (await client.get(target)).status == 404
        assert (await client.get("/v1/jobs")).json()["data"] == []
        assert (await writing.store.load(writer.job_id)).status.value == "cancelling"
        await writer.fail(Cancelled.because("cancelled"))
        assert names(await all_frames(stream)) == ["incomplete"]
    for key in await writing.client.keys(f"*{{{writer.job_id}}}*"):
        assert 0 < await writing.client.pttl(key) <= 60_000


async def test_deleting_a_waiting_response_takes_it_out_of_the_queue(client: Client, writing: JobSide) -> None:
    response = (await client.post(RESPONSES, BACKGROUND)).json()

    assert (await client.request("DELETE", f"{RESPONSES}/{response['id']}")).status == 200

    assert await writing.client.zcard(writing.keys.lane("default")) == 0
    assert (await client.get(f"{RESPONSES}/{response['id']}")).status == 404


@pytest.mark.parametrize("how", ["waits", "runs", "has ended"])
async def test_the_idempotency_key_of_a_deleted_response_is_free_again(
    client: Client, writing: JobSide, how: str
) -> None:
    key = {"Idempotency-Key": "one"}
    first = (await client.post(RESPONSES, BACKGROUND, headers=key)).json()["id"]
    if how != "waits":
        writer = await writing.take()
        if how == "has ended":
            await writer.complete()
    await client.request("DELETE", f"{RESPONSES}/{first}")

    answers = await asyncio.gather(*(client.post(RESPONSES, BACKGROUND, headers=key) for _ in range(5)))

    (second,) = {answer.json()["id"] for answer in answers}
    assert second != first
    assert (await client.get(f"{RESPONSES}/{second}")).json()["status"] == "queued"
    assert (await client.get(f"{RESPONSES}/{first}")).status == 404
    assert [job["id"] for job in (await client.get("/v1/jobs")).json()["data"]] == [second.replace("resp_", "job_")]
