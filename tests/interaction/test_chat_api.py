"""Serve `/v1/chat/completions` byte by byte: the time of headers, the form of failures, and jobs of callers that leave.

Not here: the format itself (golden tests, SDKs).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.streams.reader import Reader
from shared.config.settings import Settings
from shared.model.errors import REFUSALS, AttemptFailed, Cancelled, DeadlinePassed, ProviderRefused, ProviderTimeout
from shared.model.events import EventId
from shared.model.jobs import VIEWER_LEASE_S
from shared.process.clock import SystemClock
from tests.support.client import HEARTBEAT, TIMEOUT_S, Client, Response
from tests.support.controlled_provider import ControlledProvider
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide, LogWriter
from tests.support.processes import Processes
from tests.support.system import System, running_system, running_worker
from tests.support.valkey import running_valkey

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}
STREAM = {**BODY, "stream": True}
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Hold headers for longer than any test takes; a test that wants them earlier sets it."""
    return settings.model_copy(update={"headers_hold_s": 60.0, "heartbeat_s": 60.0})


@asynccontextmanager
async def calling(client: Client, body: dict[str, Any], **options: Any) -> AsyncIterator[Response]:
    """Provide a call before its headers are read."""
    async with client.calling(CHAT, body, **options) as response:
        yield response


async def reader_at(gateway: Gateway, position: EventId) -> Reader:
    """Return the only reader, once it has taken the events up to this one."""
    await until(lambda: [reader._subscriber.sent for reader in gateway.services.hub.readers] == [position])
    return gateway.services.hub.readers[0]


def content(frame: bytes) -> str | None:
    data: dict[str, Any] = json.loads(frame.removeprefix(b"data: ").partition(b"\n")[0])
    text: str | None = data["choices"][0]["delta"].get("content")
    return text


def error_in(body: bytes) -> dict[str, Any]:
    """Return the error of an envelope."""
    found: dict[str, Any] = json.loads(body)["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


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


# Failures.

FAILURES: list[AttemptFailed] = [
    *(ProviderRefused("They say no.", code=code) for code in REFUSALS),
    ProviderTimeout("They say nothing."),
    DeadlinePassed("It took too long."),
    Cancelled("Somebody stopped it."),
]


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: error.code)
async def test_a_failure_before_the_first_delta_is_a_status(
    client: Client, writing: JobSide, error: AttemptFailed, body: dict[str, Any]
) -> None:
    async with calling(client, body) as call:
        writer = await writing.take()
        if isinstance(error, Cancelled):
            await writing.store.cancel(writer.job_id, error)
        await writer.fail(error)
        await call.read_head()
        answer = await call.whole()
    assert answer.status == error.status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-tailrace-job"] == writer.job_id
    found = error_in(answer.body)
    assert found["message"] == str(error)
    assert found["code"]
    # OpenAI's clients repeat a call unless a header forbids it.
    assert answer.headers.get("x-should-retry") == (
        "false" if not error.retryable and (error.status >= 500 or error.status == 429) else None
    )
    assert ("retry-after" in answer.headers) == error.retryable


async def test_a_whole_answer_that_fails_after_a_delta_is_a_status_too(client: Client, writing: JobSide) -> None:
    async with calling(client, BODY) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.fail(ProviderTimeout("They say nothing more."))
        await call.read_head()
        answer = await call.whole()
    assert (answer.status, error_in(answer.body)["code"]) == (504, "provider_timeout")


async def test_a_stream_that_fails_after_a_delta_says_so_in_a_frame_and_is_not_done(
    client: Client, writing: JobSide
) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(2)
        await writer.fail(ProviderTimeout("They say nothing more."))
        frame = await call.frame()
        assert error_in(frame.removeprefix(b"data: "))["code"] == "provider_timeout"
        assert await call.rest() == b""
        assert call.complete


async def test_a_stream_whose_headers_are_out_says_in_a_frame_that_it_failed_without_a_delta(
    settings: Settings, writing: JobSide
) -> None:
    none = settings.model_copy(update={"headers_hold_s": 0.0})
    async with running_gateway(none) as gateway, calling(gateway.client, STREAM) as call:
        writer = await writing.take()
        await call.read_head()
        assert await call.chunk() == HEARTBEAT
        await writer.fail(ProviderRefused("Too many.", code="rate_limit_exceeded"))
        frame = await call.frame()
        assert error_in(frame.removeprefix(b"data: "))["code"] == "rate_limit_exceeded"
        assert await call.rest() == b""
        assert call.complete


async def test_a_second_attempt_is_not_noticed_while_nothing_was_shown(client: Client, writing: JobSide) -> None:
    async with calling(client, STREAM) as call:
        first = await writing.take()
        second = await writing.begin(first.job_id)
        await second.say("Hello")
        await second.complete()
        await call.read_head()
        assert [content(frame) for frame in await call.frames(2)] == ["", "Hello"]
        assert (await call.rest()).endswith(DONE)


async def test_a_second_attempt_ends_a_stream_that_has_shown_something(client: Client, writing: JobSide) -> None:
    async with calling(client, STREAM) as call:
        first = await writing.take()
        await first.say("Hello")
        await call.read_head()
        await call.frames(2)
        await writing.begin(first.job_id)
        frame = await call.frame()
        assert error_in(frame.removeprefix(b"data: "))["code"] == "rollback"
        assert await call.rest() == b""


async def test_a_stream_that_must_be_let_go_never_ends_properly(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await call.read_head()
        await call.frames(2)
        (reader,) = gateway.services.hub.readers
        reader.break_off("We close.")
        # No `retry:` line, over which OpenAI's clients fall, and no [DONE].
        error = (await call.rest()).removeprefix(b"data: ")
        assert error_in(error)["message"] == "We close."
        assert call.complete is False


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_call_that_must_be_let_go_before_its_headers_is_told_to_return(
    gateway: Gateway, client: Client, writing: JobSide, body: dict[str, Any]
) -> None:
    async with calling(client, body) as call:
        writer = await writing.take()
        (await reader_at(gateway, writer.last)).break_off("We close.")
        await call.read_head()
        answer = await call.whole()
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert error_in(answer.body)["message"] == "We close."


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_redis_forgot_is_told_to_return_and_not_that_it_never_was(
    settings: Settings, writing: JobSide, *, stream: bool
) -> None:
    long_waits = settings.model_copy(update={"headers_hold_s": 60.0})
    async with running_gateway(long_waits) as gateway, gateway.client.calling(CHAT, {**BODY, "stream": stream}) as call:
        keys = writing.keys.job((await writing.take()).job_id)
        await writing.client.delete(keys.record, keys.log, keys.request)
        await call.read_head()
        answer = await call.whole()

    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert error_in(answer.body)["code"] == "unavailable"


async def test_without_redis_a_call_is_refused_with_a_time_to_return(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway:
            await valkey.stop()
            for body in (BODY, STREAM):
                answer = await gateway.client.post(CHAT, body)
                assert (answer.status, answer.headers["retry-after"]) == (503, "2")
                assert error_in(answer.body)["code"] == "redis_unavailable"


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


# Callers that leave.


@pytest.fixture
async def provider() -> ControlledProvider:
    """Return a provider that says the text of its test."""
    return ControlledProvider()


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway with stored state that can be read."""
    async with running_system(settings) as running:
        yield running


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_caller_who_leaves_before_the_first_token_takes_the_job_along(
    settings: Settings, system: System, provider: ControlledProvider, body: dict[str, Any]
) -> None:
    async with running_worker(settings, provider), calling(system.client, body) as call:
        asked = await provider.call()
        call.close()
        await asked.until_closed()
        (job,) = (await system.client.get("/v1/jobs")).json()["data"]
        story = await system.story(job["id"])
    assert (story.types, story.code) == (["queued", "started", "cancelled"], "abandoned")


async def test_a_caller_who_leaves_in_mid_answer_takes_the_job_along(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with running_worker(settings, provider), calling(system.client, STREAM) as call:
        asked = await provider.call()
        asked.say("Hello")
        await call.read_head()
        await call.frames(2)
        call.close()
        await asked.until_closed()
        story = await system.story(call.headers["x-tailrace-job"])
    assert (story.types[-1], story.code, story.text) == ("cancelled", "abandoned", "Hello")


async def test_a_caller_who_leaves_while_the_job_waits_takes_it_along(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with calling(system.client, STREAM):
        await until(lambda: bool(system.gateway.services.hub.readers))
        (job,) = (await system.client.get("/v1/jobs")).json()["data"]
    await system.gateway.services.hub.emptied()
    await system.core.client.zrem(system.lane, job["id"])  # no worker takes it: the reaper has it alone
    await system.forgo_reconciling()
    async with running_worker(settings, provider):
        await system.over(job["id"])
        story = await system.story(job["id"])
    assert (story.types, story.code) == (["queued", "cancelled"], "abandoned")
    assert provider.calls == []


async def test_a_caller_who_returns_in_time_keeps_the_job(settings: Settings, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    long_waits = settings.model_copy(update={"disconnect_grace_s": 20.0})
    async with running_gateway(long_waits) as gateway:
        async with calling(gateway.client, STREAM, headers=key):
            writer = await writing.take()
            await reader_at(gateway, writer.last)
        await gateway.services.hub.emptied()
        await gateway.services.viewer_heartbeat.report()
        assert 0 < await abandoned_in_s(writing, writer) <= 20
        async with calling(gateway.client, STREAM, headers=key):
            await until(lambda: bool(gateway.services.hub.readers))
            async with asyncio.timeout(TIMEOUT_S):
                while await abandoned_in_s(writing, writer) <= 20:
                    pass


async def abandoned_in_s(writing: JobSide, writer: LogWriter) -> float:
    """In how many seconds the job is given up."""
    job = await writing.store.load(writer.job_id)
    return (job.abandon_ms - SystemClock().wall_ms()) / 1000


async def test_one_caller_of_two_may_leave(gateway: Gateway, client: Client, writing: JobSide) -> None:
    key = {"Idempotency-Key": "k"}
    async with calling(client, STREAM, headers=key) as one, calling(client, STREAM, headers=key) as two:
        writer = await writing.take()
        await until(lambda: len(gateway.services.hub.readers) == 2)
        one.close()
        await until(lambda: len(gateway.services.hub.readers) == 1)
        await gateway.services.viewer_heartbeat.report()
        assert await abandoned_in_s(writing, writer) > gateway.services.settings.disconnect_grace_s
        await writer.say("Hello")
        await writer.complete()
        await two.read_head()
        assert (await two.rest()).endswith(DONE)


async def test_a_caller_who_leaves_after_the_end_changes_nothing(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    async with calling(client, STREAM) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.complete()
        await call.read_head()
        await call.rest()
        before = await writing.store.load(writer.job_id)
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert await writing.store.load(writer.job_id) == before


async def test_a_native_job_continues_without_a_reader(gateway: Gateway, client: Client, writing: JobSide) -> None:
    job_id = (await client.post("/v1/jobs", BODY)).json()["id"]
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        await stream.frame()
    await gateway.services.hub.emptied()
    await gateway.services.viewer_heartbeat.report()
    assert (await writing.store.load(job_id)).abandon_ms == 0


async def test_a_gateway_that_dies_leaves_no_ghost(
    settings: Settings, system: System, provider: ControlledProvider
) -> None:
    async with Processes(settings) as processes, running_worker(settings, provider):
        gateway = await processes.gateway()
        client = Client(int(gateway.url.rpartition(":")[2]))
        async with calling(client, STREAM) as call:
            asked = await provider.call()
            asked.say("Hello")
            await call.read_head()
            await call.frames(2)
            await gateway.crash()
            assert await call.rest() == b""
            assert call.complete is False
        job_id = call.headers["x-tailrace-job"]
        given_up_at = (await system.job(job_id)).abandon_ms
        lasts_ms = (VIEWER_LEASE_S + system.settings.disconnect_grace_s) * 1000
        assert given_up_at <= SystemClock().wall_ms() + lasts_ms
        assert not asked.closed
        await system.write(job_id, abandon_at=1)  # that time has come
        await system.check_next(job_id)
        await asked.until_closed()
        assert (await system.story(job_id)).code == "abandoned"


# Coming back.


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
async def test_a_caller_who_was_cut_off_gets_exactly_the_rest(
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


async def test_a_caller_who_returns_keeps_the_job_alive(settings: Settings, writing: JobSide) -> None:
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


async def test_what_becomes_of_it_is_one_of_two_words(client: Client) -> None:
    refused = await client.post(CHAT, BODY, headers={"X-Tailrace-On-Disconnect": "maybe"})
    assert (refused.status, error_in(refused.body)["param"]) == (400, "X-Tailrace-On-Disconnect")


async def test_whoever_returns_is_shown_the_usage_that_was_asked_for(client: Client, writing: JobSide) -> None:
    async with calling(client, {**STREAM, "n": 2, "stream_options": {"include_usage": True}}) as call:
        writer = await writing.take()
        await writer.say("Hello")
        await writer.complete()
        await call.read_head()
        first = await call.rest()
    again = await client.get(f"{CHAT}/{writer.job_id}?stream=true")
    assert again.body == first
    assert b'"usage":{' in first


async def test_a_native_job_can_be_read_as_a_chat_and_lives_on(
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
async def test_a_cursor_that_is_none_is_refused(client: Client, writing: JobSide, query: str, param: str) -> None:
    writer = await writing.started()
    refused = await client.get(f"{CHAT}/{writer.job_id}{query}")
    assert (refused.status, error_in(refused.body)["param"]) == (400, param)


async def test_what_redis_forgot_is_a_status_to_whoever_returns(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("Hello")
    await writer.complete()
    gone = await client.get(f"{CHAT}/{writer.job_id}?stream=true&starting_after=0-7")
    assert (gone.status, error_in(gone.body)["code"]) == (500, "gap")


async def test_who_asks_for_the_headers_only_opens_no_stream(
    gateway: Gateway, client: Client, writing: JobSide
) -> None:
    writer = await writing.started()
    answer = await client.request("HEAD", f"{CHAT}/{writer.job_id}?stream=true")
    assert (answer.status, answer.headers["x-tailrace-job"]) == (200, writer.job_id)
    assert gateway.services.hub.readers == []


async def test_another_tenants_completion_looks_like_none(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    name = "chatcmpl-" + writer.job_id.removeprefix("job_")
    others = [await client.as_("sk-bob").get(f"{CHAT}/{name}"), await client.get(f"{CHAT}/chatcmpl-x")]
    assert [each.status for each in others] == [404, 404]
    assert error_in(others[0].body)["message"] == f"There is no chat completion {name}."
