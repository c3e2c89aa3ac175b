"""Report a failure of `/v1/chat/completions` as a status before the answer begins, and as a frame afterwards."""

from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import REFUSALS, AttemptFailed, Cancelled, DeadlinePassed, ProviderRefused, ProviderTimeout
from tests.support.chat_api import BODY, CHAT, DONE, STREAM, calling, content, error_in, reader_at
from tests.support.client import HEARTBEAT, Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import JobSide
from tests.support.short_settings import with_long_holds
from tests.support.valkey import running_valkey


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_long_holds(settings)


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


async def test_a_failure_after_a_delta_is_a_frame_without_a_done_frame(client: Client, writing: JobSide) -> None:
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


async def test_a_failure_after_the_headers_is_a_frame_even_without_a_delta(
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


async def test_a_stream_that_the_gateway_breaks_off_never_ends_properly(
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
async def test_a_call_broken_off_before_its_headers_gets_a_time_to_retry(
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
async def test_a_call_whose_job_redis_lost_gets_a_503_and_not_a_404(
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
