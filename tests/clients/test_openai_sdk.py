"""OpenAI's own Python clients, unchanged but for `base_url` and `api_key`, against real processes."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, AsyncStream, Omit, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from shared.model.bounds import MIB
from shared.model.events import EventType
from shared.process.child import start_child
from tests.clients.sdk import Sdk, finish_of, text_of
from tests.clients.system import KEY, System
from tests.support.client import TIMEOUT_S
from tests.support.processes import Processes
from tests.support.upstream import ask, expected_text

pytestmark = pytest.mark.asyncio(loop_scope="package")

# Everything that a careless framing, or a client's idea of a line, would break on.
BREAKS_FRAMES = (
    "a\n\nb\r\n\r\nc\rd\u2028e\u2029f\u0085g\v\f\x1c\x1e data: [DONE]\n\ndata: {}\n: hb\nevent: error\nid: 0\n"
    'retry: 1\n\n\ufeff\x00\x7f "\\" \\u0041 \\n 東京 👩🏽\u200d🚀 \U0010ffff שלום e\u0301'
)
WEATHER = {"city": "Łódź", "note": 'say "hi"\n{}', "days": [1, 2, 3]}
CALL = {"name": "weather", "arguments": WEATHER}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
HELLO = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def client_of(kind: str, system: System, **options: Any) -> AsyncIterator[Sdk]:
    """Open a client of this system."""
    make = OpenAI if kind == "OpenAI" else AsyncOpenAI
    sdk = Sdk(make(**{"base_url": system.base_url, "api_key": KEY, **options}))
    try:
        yield sdk
    finally:
        await sdk.close()


@pytest.fixture(scope="package", params=["OpenAI", "AsyncOpenAI"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def sdk(kind: str, system: System) -> AsyncIterator[Sdk]:
    """Open the client with its defaults."""
    async with client_of(kind, system) as opened:
        yield opened


@pytest.fixture
def once(sdk: Sdk) -> Sdk:
    """Return the same client; a failed request is not sent again."""
    return sdk.with_options(max_retries=0)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def hasty_sdk(kind: str, hasty: System) -> AsyncIterator[Sdk]:
    """Open a client that gets headers and heartbeats before there is anything to say."""
    async with client_of(kind, hasty) as opened:
        yield opened


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def short_timeout_sdk(kind: str, short_timeouts: System) -> AsyncIterator[Sdk]:
    """Open a client of the system that gives a silent upstream up; a failed request is not sent again."""
    async with client_of(kind, short_timeouts, max_retries=0) as opened:
        yield opened


# --- The form of an answer


async def test_a_whole_answer_has_text_model_finish_reason_and_usage(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=40)

    completion = await sdk.create(**request)

    (choice,) = completion.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == expected_text(request)
    assert (choice.finish_reason, choice.message.tool_calls, choice.logprobs) == ("stop", None, None)
    assert (completion.object, completion.model) == ("chat.completion", model)
    assert completion.id.startswith("chatcmpl-")
    assert completion.created > 0
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 40
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 40


async def test_a_stream_says_the_same_piece_by_piece_under_one_head(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=40)

    chunks = await sdk.chunks(**request)

    assert text_of(chunks) == expected_text(request)
    assert finish_of(chunks) == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].model == model
    assert [choice.delta.role for chunk in chunks for choice in chunk.choices if choice.delta.role] == ["assistant"]
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)


async def test_usage_is_the_last_chunk_of_a_stream_that_asked_for_it(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=7)

    *chunks, last = await sdk.chunks(**request, stream_options={"include_usage": True})

    assert text_of(chunks) == expected_text(request)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 7


async def test_the_stream_helper_adds_everything_up(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=12)

    events, completion = await sdk.helped(**request, stream_options={"include_usage": True})

    assert "".join(event.delta for event in events if event.type == "content.delta") == expected_text(request)
    assert [event.content for event in events if event.type == "content.done"] == [expected_text(request)]
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == expected_text(request)
    assert completion.usage.completion_tokens == 12


async def test_no_character_breaks_an_answer(sdk: Sdk, model: str) -> None:
    request = ask(model=model, text=BREAKS_FRAMES)

    whole, chunks = await asyncio.gather(sdk.create(**request), sdk.chunks(**request))

    assert whole.choices[0].message.content == BREAKS_FRAMES
    assert text_of(chunks) == BREAKS_FRAMES


async def test_a_prompt_of_any_characters_reaches_the_upstream_as_it_was(sdk: Sdk, model: str) -> None:
    prompt = BREAKS_FRAMES.replace(" ", "_")[:60]

    completion = await sdk.create(model=model, messages=[{"role": "user", "content": prompt}])

    content = completion.choices[0].message.content
    assert content is not None
    assert f"“{' '.join(prompt.split())}”" in content


async def test_tool_calls_come_in_fragments_and_whole(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tool_calls=[CALL, CALL])

    whole, chunks = await asyncio.gather(sdk.create(**request, tools=[TOOL]), sdk.chunks(**request, tools=[TOOL]))

    (choice,) = whole.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls: list[Any] = choice.message.tool_calls or []
    assert [(call.id, call.type, call.function.name) for call in calls] == [
        ("call_0_0_0", "function", "weather"),
        ("call_0_0_1", "function", "weather"),
    ]
    assert [json.loads(call.function.arguments) for call in calls] == [WEATHER, WEATHER]
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert len(parts) > 4, "the arguments come in fragments"
    assert [part.id for part in parts if part.id] == ["call_0_0_0", "call_0_0_1"]
    for index in (0, 1):
        arguments = [p.function.arguments or "" for p in parts if p.index == index and p.function]
        assert json.loads("".join(arguments)) == WEATHER
    assert finish_of(chunks) == ["tool_calls"]


async def test_the_stream_helper_puts_tool_calls_together(sdk: Sdk, model: str) -> None:
    _, completion = await sdk.helped(**ask(model=model, tool_calls=[CALL]), tools=[TOOL])

    (call,) = completion.choices[0].message.tool_calls
    assert (call.id, call.function.name) == ("call_0_0_0", "weather")
    assert json.loads(call.function.arguments) == WEATHER


async def test_reasoning_is_passed_on_beside_the_text(sdk: Sdk, model: str) -> None:
    request = ask(model=model, reasoning=3, tokens=5)

    whole, chunks = await asyncio.gather(sdk.create(**request), sdk.chunks(**request))

    thoughts = "thought 0. thought 1. thought 2. "
    said: Any = whole.choices[0].message
    assert (said.reasoning_content, said.content) == (thoughts, expected_text(request))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == thoughts
    assert text_of(chunks) == expected_text(request)


async def test_logprobs_come_with_the_tokens_that_they_belong_to(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=6)

    whole, chunks = await asyncio.gather(
        sdk.create(**request, logprobs=True), sdk.chunks(**request, logprobs=True, top_logprobs=1)
    )

    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == expected_text(request)
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    tokens = [entry.token for each in streamed if each for entry in each.content or []]
    assert tokens == [entry.token for entry in logprobs.content]


async def test_two_choices_are_kept_apart(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=9)
    texts = [expected_text(request, 0), expected_text(request, 1)]
    assert texts[0] != texts[1]

    whole, chunks, (_, helped) = await asyncio.gather(
        sdk.create(**request, n=2), sdk.chunks(**request, n=2), sdk.helped(**request, n=2)
    )

    assert [choice.index for choice in whole.choices] == [0, 1]
    assert [choice.message.content for choice in whole.choices] == texts
    assert [text_of(chunks, 0), text_of(chunks, 1)] == texts
    assert [finish_of(chunks, 0), finish_of(chunks, 1)] == [["stop"], ["stop"]]
    assert [choice.message.content for choice in helped.choices] == texts


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_that_reached_its_limit_says_so(sdk: Sdk, model: str, limit: str) -> None:
    request = {**ask(model=model, tokens=30), limit: 4}

    whole, chunks = await asyncio.gather(sdk.create(**request), sdk.chunks(**request))

    assert whole.choices[0].finish_reason == "length"
    assert whole.choices[0].message.content == expected_text(request) == text_of(chunks)
    assert finish_of(chunks) == ["length"]


async def test_an_answer_without_a_single_token_is_an_answer(sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=0)

    whole, chunks = await asyncio.gather(sdk.create(**request), sdk.chunks(**request))

    assert whole.choices[0].message.content == ""
    assert (text_of(chunks), finish_of(chunks)) == ("", ["stop"])


async def test_many_calls_at_once_get_each_its_own_answer(sdk: Sdk, model: str) -> None:
    requests = [ask(model=model, tokens=50, seed=seed) for seed in range(20)]

    answers = await asyncio.gather(*(sdk.chunks(**request) for request in requests))

    assert [text_of(chunks) for chunks in answers] == [expected_text(request) for request in requests]


async def test_heartbeats_in_a_pause_disturb_nobody(hasty_sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=6, fault="stall", after=3, stall_s=0.3)

    assert text_of(await hasty_sdk.chunks(**request)) == expected_text(request)


async def test_heartbeats_before_the_first_token_disturb_nobody(hasty_sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=6, fault="stall", stall_s=0.3)

    assert text_of(await hasty_sdk.chunks(**request)) == expected_text(request)


# --- Headers, ids, models


async def test_every_answer_names_its_request_and_its_job(sdk: Sdk, system: System, model: str) -> None:
    request = ask(model=model, tokens=2)

    raw = await sdk.raw(**request)
    async with sdk.stream(**request) as stream:
        await stream.rest()

    completion = raw.parse()
    assert completion.choices[0].message.content == expected_text(request)
    assert raw.headers["x-request-id"].startswith("req_")
    assert completion._request_id == raw.request_id == raw.headers["x-request-id"]
    assert stream.headers["x-request-id"] not in ("", raw.headers["x-request-id"])
    assert stream.headers["content-type"] == "text/event-stream"
    for headers, shown in ((raw.headers, completion.id), (stream.headers, None)):
        job = (await system.client.get(f"/v1/jobs/{headers['x-tailrace-job']}")).json()
        assert (job["status"], job["model"]) == ("completed", model)
        assert shown in (None, "chatcmpl-" + job["id"].removeprefix("job_"))


async def test_the_models_of_the_upstream_are_listed(sdk: Sdk) -> None:
    (listed,) = await sdk.models()

    assert (listed.id, listed.object, listed.owned_by) == ("scripted", "model", "tailrace")
    assert (await sdk.model("scripted")).id == "scripted"
    with pytest.raises(openai.NotFoundError) as raised:
        await sdk.model("nobody/knows-it")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


async def test_the_models_of_the_settings_are_listed_and_only_they_are_served(
    processes: Processes, main_prefix: str, system: System, kind: str
) -> None:
    names = ("acme/river-7b", "smollm2-135m-instruct")
    gateway = await processes.gateway(key_prefix=main_prefix, models=names)
    async with client_of(kind, System(gateway.url, system.upstream)) as sdk:
        assert [listed.id for listed in await sdk.models()] == list(names)
        assert (await sdk.model("acme/river-7b")).id == "acme/river-7b"
        request = ask(model="acme/river-7b", tokens=3)
        assert (await sdk.create(**request)).choices[0].message.content == expected_text(request)
        with pytest.raises(openai.NotFoundError, match="acme/river-7b") as raised:
            await sdk.create(model="river", messages=HELLO)
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    await gateway.stop()


# --- Faults of the request


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


async def test_a_prompt_that_is_too_long_for_the_model_says_so_by_its_code(sdk: Sdk, model: str) -> None:
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


async def test_an_address_that_is_none_is_an_error_in_openais_envelope(sdk: Sdk) -> None:
    elsewhere = sdk.with_options(base_url=str(sdk.client.base_url) + "nowhere/")

    with pytest.raises(openai.NotFoundError) as raised:
        await elsewhere.create(model="scripted", messages=HELLO)

    assert raised.value.code == "not_found"


# --- Failures behind it


async def test_what_may_pass_is_sent_again_by_the_client_and_then_raised(sdk: Sdk, system: System, model: str) -> None:
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
async def test_what_can_not_pass_is_not_sent_again(
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
async def test_an_answer_that_somebody_cancels_is_raised_while_iterating(
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


async def test_a_gateway_that_dies_is_a_fault_and_never_the_end_of_an_answer(
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


# --- Leaving


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


# --- Asking again


async def test_the_same_idempotency_key_is_the_same_job(sdk: Sdk, system: System, model: str) -> None:
    request = {**ask(model=model, tokens=20, rate=200), "extra_headers": {"Idempotency-Key": f"key-{model}"}}

    async with sdk.stream(**request) as first:
        await first.next()
        async with sdk.stream(**request) as second:
            texts = [text_of(await stream.rest()) for stream in (second, first)]
    async with sdk.stream(**request) as third:
        texts.append(text_of(await third.rest()))

    assert texts == [expected_text(request)] * 3
    assert len({stream.headers["x-tailrace-job"] for stream in (first, second, third)}) == 1
    assert len(await system.upstream.requests(model)) == 1
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        await sdk.create(**{**request, "temperature": 1})
    assert raised.value.code == "idempotency_conflict"


async def test_a_caller_that_leaves_takes_nothing_from_another_of_the_same_job(
    sdk: Sdk, system: System, model: str
) -> None:
    script = ask(model=model, text="one two three four five six", rate=5)
    request = {**script, "extra_headers": {"Idempotency-Key": f"key-{model}"}}

    async with sdk.stream(**request) as stays:
        async with sdk.stream(**request) as leaves:
            await leaves.next()
        chunks = await stays.rest()

    assert text_of(chunks) == expected_text(script)
    assert finish_of(chunks) == ["stop"]


# --- Coming back


async def test_a_stream_that_was_left_is_taken_up_where_it_was(system: System, model: str) -> None:
    request = ask(model=model, text="one two three four", fault="stall", after=2, stall_s=1.0)
    stays = {"X-Tailrace-On-Disconnect": "continue"}
    async with client_of("AsyncOpenAI", system) as sdk:
        raw = sdk.client.chat.completions.with_streaming_response
        said, cursor, name = "", "", ""
        async with raw.create(**request, stream=True, extra_headers=stays) as response:
            async for line in response.iter_lines():
                if line.startswith("data: "):
                    chunk = ChatCompletionChunk.model_validate_json(line.removeprefix("data: "))
                    said, name = said + (chunk.choices[0].delta.content or ""), chunk.id
                elif line.startswith("id: "):
                    cursor = line.removeprefix("id: ")
                    if said == "one two ":
                        break
        rest = await sdk.client.get(
            f"/chat/completions/{name}",
            cast_to=ChatCompletionChunk,
            options={"params": {"stream": "true", "starting_after": cursor}},
            stream=True,
            stream_cls=AsyncStream[ChatCompletionChunk],
        )
        chunks = [chunk async for chunk in rest]
        whole = await sdk.client.get(f"/chat/completions/{name}", cast_to=ChatCompletion)

    assert said + text_of(chunks) == "one two three four" == whole.choices[0].message.content
    assert finish_of(chunks) == ["stop"]
    assert {chunk.id for chunk in chunks} == {name} == {whole.id}
    assert len(await system.upstream.requests(model)) == 1


async def test_a_completion_that_nobody_has_is_not_found(system: System) -> None:
    async with client_of("AsyncOpenAI", system) as sdk:
        with pytest.raises(openai.NotFoundError) as raised:
            await sdk.client.chat.completions.retrieve("chatcmpl-nobody")

    assert raised.value.code == "job_not_found"
