"""Test what OpenAI's own Python clients raise if a request, an upstream or a gateway fails, and when they leave."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import Omit

from shared.model.bounds import MIB
from shared.model.events import EventType
from shared.process.child import start_child
from tests.clients.sdk import HELLO, Sdk, client_of
from tests.clients.system import KEY, System
from tests.support.client import TIMEOUT_S
from tests.support.processes import Processes
from tests.support.upstream import ask

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_wrong_key_and_a_missing_one_are_authentication_errors(sdk: Sdk) -> None:
    nobody = sdk.with_options(api_key="sk-nobody")
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: nobody.create(model="scripted", messages=HELLO),
        lambda: nobody.chunks(model="scripted", messages=HELLO),
        nobody.models,
        lambda: sdk.create(model="scripted", messages=HELLO, extra_headers={"Authorization": Omit()}),
    ]
    for call in calls:
        with pytest.raises(openai.AuthenticationError) as raised:
            await call()
        assert raised.value.status_code == 401
        assert raised.value.code == "invalid_api_key"
        assert raised.value.type == "invalid_request_error"
        assert (raised.value.request_id or "").startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_the_upstream_does_not_know_is_not_found(sdk: Sdk, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown-7b") as raised:
        await (sdk.chunks if stream else sdk.create)(model="unknown-7b", messages=HELLO)

    assert (raised.value.status_code, raised.value.code, raised.value.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"model": ""}, "model"),
        ({"n": 0}, "n"),
        ({"extra_body": {"stream": "yes"}}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"extra_headers": {"Idempotency-Key": "k" * 256}}, "Idempotency-Key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_field_is_a_bad_request_that_names_it(
    sdk: Sdk, system: System, model: str, wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await sdk.create(**{"model": model, "messages": HELLO, **wrong})

    assert (raised.value.code, raised.value.param) == ("invalid_request", param)
    assert raised.value.type == "invalid_request_error"
    assert param in raised.value.message
    assert await system.upstream.requests(model) == []


async def test_a_field_that_the_upstream_refuses_is_named_too(sdk: Sdk, model: str) -> None:
    refusal = {"message": "temperature is too hot.", "type": "invalid_request_error", "param": "temperature"}
    request = {**ask(model=model, http={"status": 400, "body": {"error": refusal}}), "temperature": 1.5}

    for call in (sdk.create, sdk.chunks):
        with pytest.raises(openai.BadRequestError, match="too hot") as raised:
            await call(**request)
        assert (raised.value.code, raised.value.param) == ("invalid_request", "temperature")


async def test_a_prompt_that_is_too_long_for_the_model_has_its_own_error_code(sdk: Sdk, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await sdk.create(**ask(model=model, fault="refuse", code="context_length_exceeded"))

    assert raised.value.code == "context_length_exceeded"


async def test_a_body_that_is_too_large_gets_its_answer(sdk: Sdk, system: System, model: str) -> None:
    messages = [{"role": "user", "content": "x" * 2 * MIB}]

    for call in (sdk.create, sdk.chunks):
        with pytest.raises(openai.APIStatusError, match=str(MIB)) as raised:
            await call(model=model, messages=messages)
        assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")
    assert await system.upstream.requests(model) == []


async def test_an_unknown_address_is_an_error_in_openais_envelope(sdk: Sdk) -> None:
    elsewhere = sdk.with_options(base_url=str(sdk.client.base_url) + "nowhere/")

    with pytest.raises(openai.NotFoundError) as raised:
        await elsewhere.create(model="scripted", messages=HELLO)

    assert raised.value.code == "not_found"


async def test_the_client_retries_a_transient_failure_and_then_raises_it(sdk: Sdk, system: System, model: str) -> None:
    async def fail(
        upstream_says: int, error: type[openai.APIStatusError], status: int, code: str, stream: bool
    ) -> None:
        name = f"{model}-{upstream_says}-{stream}"
        with pytest.raises(error) as raised:
            await (sdk.chunks if stream else sdk.create)(**ask(model=name, http={"status": upstream_says, "body": {}}))
        assert (raised.value.status_code, raised.value.code) == (status, code)
        assert int(raised.value.response.headers["retry-after"]) > 0
        listed = (await system.client.get("/v1/jobs?limit=100")).json()["data"]
        failures = [job["error"]["code"] for job in listed if job["model"] == name]
        assert failures == [code] * 3
        assert len(await system.upstream.requests(name)) == 3

    # At once, since the clients take their time.
    await asyncio.gather(
        fail(429, openai.RateLimitError, 429, "rate_limit_exceeded", False),
        fail(429, openai.RateLimitError, 429, "rate_limit_exceeded", True),
        fail(500, openai.InternalServerError, 502, "server_error", False),
        fail(500, openai.InternalServerError, 502, "server_error", True),
        fail(503, openai.InternalServerError, 503, "provider_overloaded", True),
    )


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ({"fault": "refuse", "code": "insufficient_quota"}, 429, "insufficient_quota"),
        ({"http": {"status": 401, "body": {"error": {"message": "Bad key"}}}}, 502, "upstream_auth"),
        ({"http": {"status": 418, "body": "<html>"}}, 502, "provider_error"),
    ],
    ids=["quota", "our key", "nonsense"],
)
async def test_the_client_does_not_retry_a_permanent_failure(
    sdk: Sdk, system: System, model: str, script: dict[str, Any], status: int, code: str
) -> None:
    error = openai.RateLimitError if status == 429 else openai.InternalServerError

    for call in (sdk.create, sdk.chunks):
        with pytest.raises(error) as raised:
            await call(**ask(model=model, **script))
        assert (raised.value.status_code, raised.value.code) == (status, code)
        assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(await system.upstream.requests(model)) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_hangs_is_a_gateway_time_out(short_timeout_sdk: Sdk, model: str, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        await (short_timeout_sdk.chunks if stream else short_timeout_sdk.create)(**ask(model=model, fault="hang"))

    assert (raised.value.status_code, raised.value.code) == (504, "provider_timeout")
    assert raised.value.type == "server_error"


@pytest.mark.parametrize("fault", ["truncate", "cut", "reset", "nonsense", "bad_json"])
async def test_an_upstream_that_fails_before_the_first_token_is_a_status(once: Sdk, model: str, fault: str) -> None:
    request = ask(model=model, tokens=5, fault=fault)

    for call in (once.create, once.chunks):
        with pytest.raises(openai.InternalServerError) as raised:
            await call(**request)
        assert raised.value.status_code == 502
        assert (raised.value.code or "").startswith("provider_")


@pytest.mark.parametrize("fault", ["truncate", "cut", "reset", "nonsense", "bad_json", "error"])
async def test_an_upstream_that_fails_in_mid_answer_is_raised_while_iterating(
    once: Sdk, model: str, fault: str
) -> None:
    request = ask(model=model, text="one two three four", fault=fault, after=2, error={"message": "Oops"})

    async with once.stream(**request) as stream:
        await stream.until_text("one two ")
        with pytest.raises(openai.APIError) as raised:
            await stream.rest()
    with pytest.raises(openai.InternalServerError):
        await once.create(**request)

    assert not isinstance(raised.value, openai.APIStatusError)
    assert (raised.value.code or "").startswith("provider_")
    assert raised.value.type == "server_error"


async def test_an_error_in_mid_answer_keeps_its_name(once: Sdk, model: str) -> None:
    refusal = {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}

    async with once.stream(**ask(model=model, text="one two", fault="error", after=1, error=refusal)) as stream:
        await stream.until_text("one ")
        with pytest.raises(openai.APIError, match="Slow down") as raised:
            await stream.rest()

    assert (raised.value.type, raised.value.code) == ("rate_limit_error", "rate_limit_exceeded")


async def test_the_stream_helper_raises_what_the_stream_raises(once: Sdk, model: str) -> None:
    with pytest.raises(openai.APIError) as raised:
        await once.helped(**ask(model=model, tokens=5, fault="truncate", after=2))

    assert raised.value.code == "provider_truncated"


async def test_an_upstream_that_falls_silent_in_mid_answer_is_raised_while_iterating(
    short_timeout_sdk: Sdk, model: str
) -> None:
    request = ask(model=model, text="one two three", fault="stall", after=2)

    async with short_timeout_sdk.stream(**request) as stream:
        await stream.until_text("one two ")
        with pytest.raises(openai.APIError) as raised:
            await stream.rest()

    assert raised.value.code == "provider_timeout"


@pytest.mark.parametrize("spoken", ["", "one two "])
async def test_a_cancelled_answer_raises_while_iterating(
    hasty_sdk: Sdk, hasty: System, model: str, spoken: str
) -> None:
    async with hasty_sdk.stream(
        **ask(model=model, text=spoken + "three", fault="stall", after=2 * bool(spoken))
    ) as stream:
        await hasty.upstream.until_asked(model)
        await stream.until_text(spoken)
        job_id = stream.headers["x-tailrace-job"]
        await hasty.client.post(f"/v1/jobs/{job_id}/cancel")
        with pytest.raises(openai.APIError) as raised:
            await stream.rest()

    assert raised.value.code == "cancelled"
    await hasty.upstream.until_closed(model)


async def test_a_killed_gateway_is_an_error_and_never_the_end_of_an_answer(
    processes: Processes, main_prefix: str, system: System, kind: str, model: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    async with client_of(kind, System(gateway.url, system.upstream), max_retries=0) as sdk:
        async with sdk.stream(**ask(model=model, text="one two three", fault="stall", after=2)) as stream:
            await stream.until_text("one two ")
            await gateway.crash()
            with pytest.raises(openai.APIConnectionError):
                await stream.rest()
        with pytest.raises(openai.APIConnectionError):
            await sdk.create(model=model, messages=HELLO)

    await system.client.post(f"/v1/jobs/{stream.headers['x-tailrace-job']}/cancel")
    await system.upstream.until_closed(model)


@pytest.mark.parametrize("spoken", ["", "one two "])
async def test_closing_a_stream_closes_the_upstream_and_cancels_the_job(
    hasty_sdk: Sdk, hasty: System, model: str, spoken: str
) -> None:
    async with hasty_sdk.stream(
        **ask(model=model, text=spoken + "three", fault="stall", after=2 * bool(spoken))
    ) as stream:
        await hasty.upstream.until_asked(model)
        await stream.until_text(spoken)
        job_id = stream.headers["x-tailrace-job"]

    await _is_cancelled(hasty, job_id, model)


async def test_a_client_that_times_out_cancels_its_job(sdk: Sdk, system: System, model: str) -> None:
    hurried = sdk.with_options(timeout=0.5, max_retries=0)

    with pytest.raises(openai.APITimeoutError):
        await hurried.create(**ask(model=model, fault="hang"))

    assert (await system.upstream.until_closed(model))["sent"] == 0


async def test_a_client_that_is_killed_cancels_its_job(system: System, model: str) -> None:
    request = ask(model=model, text="one two three", fault="stall", after=2)
    program = (
        "import openai, sys, json\n"
        "client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])\n"
        "stream = client.chat.completions.create(stream=True, **json.loads(sys.argv[3]))\n"
        "print(stream.response.headers['x-tailrace-job'], flush=True)\n"
        "for chunk in stream: print(chunk.choices[0].delta.content, flush=True)\n"
    )
    arguments = (system.base_url, KEY, json.dumps(request))
    client = await start_child([sys.executable, "-c", program, *arguments], output=PIPE)
    assert client.stdout is not None
    async with asyncio.timeout(4 * TIMEOUT_S):  # it imports openai first
        job_id = (await client.stdout.readline()).decode().strip()
        while await client.stdout.readline() != b"two \n":
            pass
    client.send_signal(signal.SIGKILL)
    await client.communicate()

    await _is_cancelled(system, job_id, model)


async def _is_cancelled(system: System, job_id: str, model: str) -> None:
    await system.upstream.until_closed(model)  # first: a reader of the end is a viewer and would hold the job alive
    end = await system.end_of(job_id)
    assert end.type is EventType.CANCELLED
    assert end.json()["error"]["code"] == "abandoned"
    assert len(await system.upstream.requests(model)) == 1
