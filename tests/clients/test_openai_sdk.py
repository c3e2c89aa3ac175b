"""Test OpenAI's own Python clients, unchanged but for `base_url` and `api_key`, against real processes.

Not here: faults, failures and callers that leave (test_openai_sdk_failures.py).
"""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.clients.sdk import BREAKS_FRAMES, CALL, HELLO, TOOL, WEATHER, Sdk, client_of, finish_of, text_of
from tests.clients.system import System
from tests.support.processes import Processes
from tests.support.upstream import ask, expected_text

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


async def test_a_stream_has_the_same_text_piece_by_piece_under_one_head(sdk: Sdk, model: str) -> None:
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
async def test_the_finish_reason_of_an_answer_at_its_limit_is_length(sdk: Sdk, model: str, limit: str) -> None:
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


async def test_heartbeats_in_a_pause_do_not_change_the_answer(hasty_sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=6, fault="stall", after=3, stall_s=0.3)

    assert text_of(await hasty_sdk.chunks(**request)) == expected_text(request)


async def test_heartbeats_before_the_first_token_do_not_change_the_answer(hasty_sdk: Sdk, model: str) -> None:
    request = ask(model=model, tokens=6, fault="stall", stall_s=0.3)

    assert text_of(await hasty_sdk.chunks(**request)) == expected_text(request)


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


async def test_a_disconnect_takes_nothing_from_another_caller_of_the_same_job(
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


async def test_a_disconnected_stream_continues_at_its_last_chunk(system: System, model: str) -> None:
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


async def test_an_unknown_completion_is_not_found(system: System) -> None:
    async with client_of("AsyncOpenAI", system) as sdk:
        with pytest.raises(openai.NotFoundError) as raised:
            await sdk.client.chat.completions.retrieve("chatcmpl-nobody")

    assert raised.value.code == "job_not_found"
