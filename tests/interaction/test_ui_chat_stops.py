"""Stop an answer of `/api/chat`: its job, its upstream and its stream."""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from shared.model.jobs import Job, JobSpec
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds
from tests.support.system import System, running_worker
from tests.support.ui_chat_api import (
    ABORTED,
    POST,
    STOP,
    STREAM,
    answer,
    asks,
    parts,
    until_cancelled,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


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


async def test_a_stop_before_the_first_word_is_not_a_failure(client: Client, writing: JobSide) -> None:
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


async def test_a_stop_that_comes_before_the_job_is_recorded_ends_it(
    gateway: Gateway, client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = gateway.services.admission.submit

    async def submit_after_a_stop(spec: JobSpec) -> Job:
        assert (await client.post(STOP)).json() == {"success": True}
        return await submit(spec)

    monkeypatch.setattr(gateway.services.admission, "submit", submit_after_a_stop)
    assert (await client.post(POST, asks())).body == ABORTED
