"""Drain a gateway on a real signal: release the readers that can come back, and wait for the others."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.server import serve
from gateway.streams.hub import Hub
from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.model.jobs import Job
from shared.store.jobs import JobRecords
from tests.support.client import TIMEOUT_S, Client
from tests.support.gateway import Gateway
from tests.support.log_writer import PROMPT, JobSide
from tests.support.ports import reserve_port
from tests.support.processes import Processes, at_peace

RETRY = re.compile(rb"retry: \d{3,4}\n\n")
CHAT, JOBS = "/v1/chat/completions", "/v1/jobs"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}
STREAM = {**BODY, "stream": True}


class Serving:
    """A gateway as its process runs it, here in the test's. Its signals are real ones."""

    def __init__(self, client: Client, task: "asyncio.Task[int]") -> None:
        self.client = client
        self._task = task

    async def drain(self) -> None:
        """Send the first signal, and wait until new work is refused."""
        self.signal()
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.client.get("/health/ready")).status != 503:
                pass

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to this process."""
        signal.raise_signal(number)

    async def stopped(self) -> int:
        """Wait for its end; the exit status."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._task


@asynccontextmanager
async def serving(settings: Settings, *, status: int = 0, **changes: Any) -> AsyncIterator[Serving]:
    port, ready = reserve_port(), asyncio.Event()
    task = asyncio.create_task(serve(settings.model_copy(update={"port": port, **changes}), ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    running = Serving(Client(port), task)
    try:
        assert ready.is_set(), task
        yield running
    finally:
        waiting.cancel()
        if not task.done():
            running.signal()
            running.signal()
        assert await running.stopped() == status


@pytest.fixture
def slow_drain(settings: Settings) -> Settings:
    """Return settings of a gateway that waits for longer than any test."""
    return settings.model_copy(update={"drain_s": 600.0, "headers_hold_s": 60.0})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_gateway_without_readers_stops_at_once(slow_drain: Settings, number: signal.Signals) -> None:
    async with serving(slow_drain) as gateway:
        assert (await gateway.client.get("/health/live")).status == 200
        gateway.signal(number)
        assert await gateway.stopped() == 0
        with pytest.raises(ConnectionRefusedError):
            await gateway.client.get("/health/live")


async def test_a_gateway_with_a_delay_takes_new_work_until_its_proxies_know(slow_drain: Settings) -> None:
    async with serving(slow_drain, drain_delay_s=600.0) as gateway:
        await gateway.drain()
        assert (await gateway.client.post(JOBS, BODY)).status == 202
        gateway.signal()  # the second one cuts the delay short
        assert await gateway.stopped() == 0


async def test_a_gateway_drains_after_the_delay(slow_drain: Settings) -> None:
    async with serving(slow_drain, drain_delay_s=0.05) as gateway:
        gateway.signal()
        assert await gateway.stopped() == 0


async def test_a_native_reader_gets_a_time_to_retry_and_continues_at_another_gateway(
    slow_drain: Settings, gateway: Gateway, writing: JobSide
) -> None:
    writer = await writing.started()
    async with serving(slow_drain) as leaving:
        async with leaving.client.stream("GET", f"{JOBS}/{writer.job_id}/events") as stream:
            first = b"".join(await stream.frames(2))
            leaving.signal()
            assert RETRY.fullmatch(await stream.rest())
            assert stream.complete is False
        assert await leaving.stopped() == 0
    await writer.say("while nobody read")
    await writer.complete()
    headers = {"Last-Event-ID": "1-1"}
    async with gateway.client.stream("GET", f"{JOBS}/{writer.job_id}/events", headers=headers) as stream:
        assert first + await stream.rest() == await writing.logged(writer.job_id)


async def test_a_native_reader_that_connects_with_the_signal_is_broken_off_too(
    slow_drain: Settings, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await writing.started()
    asked, answered = asyncio.Event(), asyncio.Event()
    load = JobRecords.load

    async def slow_load(store: JobRecords, job_id: str) -> Job:
        asked.set()
        await answered.wait()
        return await load(store, job_id)

    async with serving(slow_drain) as leaving, leaving.client.calling(CHAT, STREAM) as call:
        other = await writing.take()  # keeps the gateway draining
        monkeypatch.setattr(JobRecords, "load", slow_load)
        with contextlib.closing(await leaving.client.send("GET", f"{JOBS}/{writer.job_id}/events")) as stream:
            await asyncio.wait_for(asked.wait(), TIMEOUT_S)
            await leaving.drain()
            answered.set()
            await stream.read_head()
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
            assert RETRY.fullmatch(await stream.rest())
            assert stream.complete is False
        await other.complete()
        await call.read_head()


async def test_a_drain_waits_for_a_caller_that_cannot_return(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(2)
        await gateway.drain()
        await writer.say(" there")
        assert b" there" in await call.frame()
        await writer.complete()
        assert (await call.rest()).endswith(b"data: [DONE]\n\n")
        assert call.complete
        assert await gateway.stopped() == 0


async def test_a_drain_waits_for_a_whole_answer(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain) as gateway, gateway.client.calling(CHAT, BODY) as call:
        writer = await writing.take()
        await gateway.drain()
        await writer.say("Hello")
        await writer.complete()
        await call.read_head()
        assert (await call.whole()).json()["choices"][0]["message"]["content"] == "Hello"
        assert await gateway.stopped() == 0


async def test_a_draining_gateway_accepts_no_new_work(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await gateway.drain()
        native = await gateway.client.post(JOBS, BODY)
        assert (native.status, native.headers["retry-after"]) == (503, "2")
        assert native.headers["content-type"] == "application/problem+json"
        assert native.json()["code"] == "draining"
        chat = await gateway.client.post(CHAT, BODY)
        assert (chat.status, chat.headers["retry-after"]) == (503, "2")
        assert chat.json()["error"]["code"] == "draining"
        # Reading is allowed, and an EventSource must not see a status that closes it for good.
        assert (await gateway.client.get(f"{JOBS}/{writer.job_id}")).status == 200
        async with gateway.client.stream("GET", f"{JOBS}/{writer.job_id}/events") as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
            assert RETRY.fullmatch(await stream.rest())
            assert stream.complete is False
        await writer.complete()


async def test_cancelling_on_a_draining_gateway_shows_the_job_as_it_is(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        async with asyncio.TaskGroup() as group, writing.client.pubsub() as orders:
            await orders.subscribe(writing.keys.control)
            await orders.get_message(timeout=TIMEOUT_S)
            cancelling = group.create_task(gateway.client.post(f"{JOBS}/{writer.job_id}/cancel"))
            assert await orders.get_message(timeout=TIMEOUT_S) is not None
            await gateway.client.get("/health/live")  # by then it waits for the job's end
            gateway.signal()
        assert (cancelling.result().status, cancelling.result().json()["status"]) == (200, "cancelling")


async def test_a_stream_that_does_not_end_in_time_is_broken(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain, drain_s=0.05) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(2)
        gateway.signal()
        (error,) = await call.frames(1)
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "unavailable"
        assert await call.rest() == b""
        assert call.complete is False
        assert await gateway.stopped() == 0


async def test_a_call_with_held_headers_at_the_end_of_a_drain_gets_a_time_to_retry(
    slow_drain: Settings, writing: JobSide
) -> None:
    async with serving(slow_drain, drain_s=0.05) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        await writing.take()
        gateway.signal()
        await call.read_head()
        answer = await call.whole()
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert "shutting down" in answer.json()["error"]["message"]


async def test_the_second_signal_cuts_the_waiting_short(slow_drain: Settings, writing: JobSide) -> None:
    async with serving(slow_drain) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(2)
        await gateway.drain()
        gateway.signal()
        (error,) = await call.frames(1)
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "unavailable"
        assert await call.rest() == b""
        assert call.complete is False
        assert await gateway.stopped() == 0


async def test_the_caller_of_a_broken_stream_has_left_so_that_its_job_is_given_up(
    slow_drain: Settings, writing: JobSide
) -> None:
    async with serving(slow_drain, drain_s=0.0) as gateway, gateway.client.calling(CHAT, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        before = (await writing.store.load(writer.job_id)).abandon_ms
        gateway.signal()
        await gateway.stopped()
        assert (await writing.store.load(writer.job_id)).abandon_ms < before


async def test_a_gateway_whose_part_has_died_does_not_continue_half_alive(
    slow_drain: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = asyncio.Event()

    async def run(_: Hub) -> None:
        await dies.wait()
        raise ZeroDivisionError("a defect of the hub")

    monkeypatch.setattr(Hub, "run", run)
    with capture_logs() as logs:
        async with serving(slow_drain, status=1) as gateway:
            assert (await gateway.client.get("/health/live")).status == 200
            dies.set()
            assert await gateway.stopped() == 1
    assert "gateway.part_died" in [line["event"] for line in logs]


async def test_a_gateway_that_breaks_open_streams_has_nothing_to_complain_of(
    processes: Processes, writing: JobSide
) -> None:
    """A process of its own: one reader can come back, one can't, and one has no headers yet."""
    gateway = await processes.gateway(drain_s=0.1, headers_hold_s=60.0, log_level="info")
    client = Client(int(gateway.url.rpartition(":")[2]))
    async with AsyncExitStack() as readers:
        call = await readers.enter_async_context(client.calling(CHAT, STREAM))
        writer = await writing.take()
        await writer.say("Half of ")
        await call.read_head()
        await call.frames(2)
        held = await readers.enter_async_context(client.calling(CHAT, STREAM))
        await writing.take()
        native = await readers.enter_async_context(client.stream("GET", f"{JOBS}/{writer.job_id}/events"))
        await native.frames(3)

        assert await gateway.terminated() == 0
        assert RETRY.fullmatch(await native.rest())
        assert (await call.rest()).startswith(b'data: {"error":')
        assert (native.complete, call.complete) == (False, False)
        await held.read_head()
        assert held.status == 503
    assert at_peace(gateway)


async def test_the_error_for_a_taken_port_names_the_setting(gateway: Gateway, settings: Settings) -> None:
    port = gateway.client.port
    with pytest.raises(StartupError, match=rf"Port {port} on 127.0.0.1 is in use; set TAILRACE_PORT"):
        await serve(settings.model_copy(update={"port": port}))


async def test_the_error_for_a_foreign_address_names_it(settings: Settings) -> None:
    with pytest.raises(StartupError, match=r"can't listen on 203\.0\.113\.1"):
        await serve(settings.model_copy(update={"host": "203.0.113.1"}))


async def test_the_error_of_a_gateway_without_redis_names_the_setting(settings: Settings) -> None:
    with pytest.raises(StartupError, match="TAILRACE_REDIS_URL"):
        await serve(settings.model_copy(update={"redis_url": None}))
