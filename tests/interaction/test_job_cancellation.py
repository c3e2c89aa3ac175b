"""Cancel a job over HTTP, while it waits, while it runs and after its end.

Not here: what becomes of the upstream's call (test_cancel.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled
from shared.model.events import EventType, decode_frame, split_frames
from tests.support.client import TIMEOUT_S, Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.jobs_api import JOBS, jobs_in_lane, submitted
from tests.support.log_writer import JobSide, LogWriter


async def cancel(client: Client, job_id: str) -> dict[str, Any]:
    answer = await client.post(f"{JOBS}/{job_id}/cancel")
    assert answer.status == 200, answer.body
    job: dict[str, Any] = answer.json()
    return job


@asynccontextmanager
async def orders(writing: JobSide) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Provide a reader of the orders that workers receive."""
    async with writing.client.pubsub() as pubsub:
        await pubsub.subscribe(writing.keys.control)
        await pubsub.get_message(timeout=TIMEOUT_S)  # the confirmation

        async def order() -> str:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=TIMEOUT_S)
            assert message is not None
            return bytes(message["data"]).decode()

        yield order


async def test_a_queued_job_is_cancelled_at_once_and_leaves_the_queue(client: Client, writing: JobSide) -> None:
    job_id = await submitted(client)
    job = await cancel(client, job_id)
    assert (job["status"], job["error"]["code"], job["events"]) == ("cancelled", "cancelled", 2)
    assert await jobs_in_lane(writing) == []
    # Its completion steps wait for a worker.
    _, due = await writing.queue.due_for_check(hold_s=1.0, limit=1)
    assert due == [job_id]
    last = decode_frame(list(split_frames(await writing.logged(job_id)))[-1])
    assert last.type is EventType.CANCELLED


async def test_a_running_job_is_cancelled_through_its_worker_and_shown_when_it_has_ended(
    client: Client, writing: JobSide
) -> None:
    writer = await writing.started()
    await writer.say("a")
    async with orders(writing) as order:
        cancelling = asyncio.create_task(cancel(client, writer.job_id))
        assert await order() == writer.job_id
    assert (await writing.log.append([writer.entry("too late")])) == ["cancelled"]
    await end_as_told(writing, writer)
    job = await cancelling
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    assert job["error"]["message"]


async def end_as_told(writing: JobSide, writer: LogWriter) -> None:
    """End the job at the position of its log, as a worker does on an order to stop."""
    successor = await writing.begin_the_end(writer.job_id)
    await successor.fail(Cancelled.because("cancelled"))


async def test_a_job_whose_worker_does_not_answer_is_shown_as_cancelling(
    client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", 0.05)
    writer = await writing.started()
    assert (await cancel(client, writer.job_id))["status"] == "cancelling"


async def test_each_cancellation_is_sent_to_the_worker(
    client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", 0.05)
    writer = await writing.started()
    async with orders(writing) as order:
        for _ in range(2):
            await cancel(client, writer.job_id)
            assert await order() == writer.job_id


async def test_cancelling_a_job_that_has_ended_changes_nothing(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.complete()
    log = await writing.logged(writer.job_id)
    assert (await cancel(client, writer.job_id))["status"] == "completed"
    assert await writing.logged(writer.job_id) == log
    queued = await submitted(client)
    assert await cancel(client, queued) == await cancel(client, queued)


async def test_a_job_is_cancelled_through_any_gateway(settings: Settings, gateway: Gateway, writing: JobSide) -> None:
    writer = await writing.started()
    async with (
        running_gateway(settings) as other,
        gateway.client.stream("GET", f"{JOBS}/{writer.job_id}/events") as stream,
    ):
        await stream.frames(2)
        async with orders(writing) as order:
            cancelling = asyncio.create_task(cancel(other.client, writer.job_id))
            await order()
        await end_as_told(writing, writer)
        assert (await cancelling)["status"] == "cancelled"
        assert [event.type for event in await stream.events()] == [EventType.CANCELLED]
        assert stream.complete
