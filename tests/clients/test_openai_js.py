"""Use OpenAI's JavaScript client, unchanged but for `baseURL` and `apiKey`, against real processes.

These tests cover the client's own parts: its parser of streams, its helpers, its errors and retries, its abort
signals. Not here: the parts that both languages share (test_openai_sdk.py, test_openai_responses.py).
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.node import running_program
from tests.clients.openai_js import OpenAiJs, Raised
from tests.clients.sdk import BREAKS_FRAMES, CALL, HELLO, TOOL, WEATHER
from tests.clients.system import System
from tests.clients.test_openai_responses import AGENT_CALLS, AGENT_TOOLS, BEGINNING, PATCH, asked
from tests.clients.test_openai_responses import TOOL as RESPONSE_TOOL
from tests.support.processes import Processes
from tests.support.upstream import ask, expected_text

pytestmark = pytest.mark.asyncio(loop_scope="package")

CREATE, STREAM = "chat.completions.create", "chat.completions.stream"
FOR_EVER = {"text": "one two three", "fault": "stall", "after": 2}


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def client(js: Path, system: System) -> AsyncIterator[OpenAiJs]:
    """Start one client in one process of Node, for all tests."""
    async with running_program(js, "openai.js", system.url) as program:
        yield OpenAiJs(program)


def streamed(**script: Any) -> dict[str, Any]:
    return {**ask(**script), "stream": True}


def text_of(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def said(events: list[Any]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


# --- Chat completions


async def test_a_whole_answer_has_text_finish_reason_and_usage(client: OpenAiJs, model: str) -> None:
    request = ask(model=model, tokens=40)

    completion = await client.call(CREATE, request)

    (choice,) = completion["choices"]
    assert choice["message"]["content"] == expected_text(request)
    assert (choice["finish_reason"], completion["model"], completion["usage"]["completion_tokens"]) == (
        "stop",
        model,
        40,
    )


@pytest.mark.parametrize("script", [{"tokens": 40}, {"text": BREAKS_FRAMES}], ids=["words", "awkward"])
async def test_a_stream_has_the_same_text_piece_by_piece(client: OpenAiJs, model: str, script: dict[str, Any]) -> None:
    request = streamed(model=model, **script)

    headers = await client.open(CREATE, {**request, "stream_options": {"include_usage": True}})
    *chunks, last = await client.read()

    assert headers["x-request-id"].startswith("req_")
    assert text_of(chunks) == expected_text(request)
    assert [each["choices"][0]["finish_reason"] for each in chunks if each["choices"][0]["finish_reason"]] == ["stop"]
    assert (last["choices"], last["usage"]["total_tokens"] > 0) == ([], True)


async def test_the_stream_helper_gives_the_final_content(client: OpenAiJs, model: str) -> None:
    request = ask(model=model, tokens=12)

    chunks, final = await client.helped(
        STREAM,
        {**request, "stream_options": {"include_usage": True}},
        final=["finalContent", "finalMessage", "finalChatCompletion", "totalUsage"],
    )

    text = expected_text(request)
    assert text_of(chunks) == final["finalContent"] == final["finalMessage"]["content"] == text
    assert final["finalChatCompletion"]["choices"][0]["finish_reason"] == "stop"
    assert final["totalUsage"]["completion_tokens"] == 12


async def test_the_stream_helper_puts_tool_calls_together(client: OpenAiJs, model: str) -> None:
    request = {**ask(model=model, tool_calls=[CALL, CALL]), "tools": [TOOL]}

    _, final = await client.helped(STREAM, request, final=["finalMessage"])

    calls = final["finalMessage"]["tool_calls"]
    assert [(call["id"], call["function"]["name"]) for call in calls] == [
        ("call_0_0_0", "weather"),
        ("call_0_0_1", "weather"),
    ]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [WEATHER, WEATHER]


# --- Responses


async def test_a_response_retrieved_later_is_the_same(client: OpenAiJs, model: str) -> None:
    response = await client.call("responses.create", asked(model=model, tokens=20))

    assert (response["status"], response["output_text"]) == ("completed", expected_text(ask(model=model, tokens=20)))
    assert await client.call("responses.retrieve", response["id"]) == response


async def test_the_response_helper_adds_everything_up(client: OpenAiJs, model: str) -> None:
    events, final = await client.helped(
        "responses.stream", asked(model=model, tokens=12, reasoning=2), final=["finalResponse"]
    )

    assert said(events) == final["finalResponse"]["output_text"] == expected_text(ask(model=model, tokens=12))
    assert [item["type"] for item in final["finalResponse"]["output"]] == ["reasoning", "message"]


async def test_the_response_helper_puts_tool_calls_together(client: OpenAiJs, model: str) -> None:
    request = {**asked(model=model, tool_calls=[CALL]), "tools": [RESPONSE_TOOL]}

    _, final = await client.helped("responses.stream", request, final=["finalResponse"])

    (call,) = final["finalResponse"]["output"]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == ("function_call", "weather", WEATHER)


async def test_the_response_helper_reads_summaries_custom_tools_and_those_of_a_namespace(
    client: OpenAiJs, model: str
) -> None:
    request = {**asked(model=model, reasoning=2, tool_calls=AGENT_CALLS), "tools": AGENT_TOOLS}

    events, final = await client.helped(
        "responses.stream", {**request, "reasoning": {"summary": "detailed"}}, final=["finalResponse"]
    )

    thoughts, patch, agent = final["finalResponse"]["output"]
    assert thoughts["summary"] == [{"type": "summary_text", "text": "thought 0. thought 1. "}]
    assert (patch["type"], patch["input"]) == ("custom_tool_call", PATCH)
    assert (agent["namespace"], agent["name"]) == ("agents", "spawn")
    assert {"response.reasoning_summary_part.added", "response.custom_tool_call_input.done"} <= set(types(events))


async def test_a_background_stream_that_was_left_continues_after_any_event(
    client: OpenAiJs, system: System, model: str
) -> None:
    request = {**asked(model=model, tokens=20, rate=100), "background": True, "stream": True}

    await client.open("responses.create", request)
    events = await client.read(5)
    await client.leave()
    response_id, last = events[0]["response"]["id"], events[-1]["sequence_number"]
    await client.open("responses.retrieve", response_id, {"stream": True, "starting_after": last})
    events += await client.read()
    await client.open("responses.retrieve", response_id, {"stream": True})
    replay = await client.read()

    assert events == replay
    assert types(events)[:3] == BEGINNING
    assert said(events) == expected_text(ask(model=model, tokens=20))
    assert len(await system.upstream.requests(model)) == 1


async def test_the_helper_resumes_a_background_response(client: OpenAiJs, model: str) -> None:
    created = await client.call("responses.create", {**asked(model=model, tokens=20, rate=100), "background": True})

    events, final = await client.helped(
        "responses.stream", {"response_id": created["id"], "starting_after": 4}, final=["finalResponse"]
    )

    assert created["status"] in ("queued", "in_progress")
    assert events[0]["sequence_number"] == 5
    assert final["finalResponse"]["output_text"] == expected_text(ask(model=model, tokens=20))


async def test_cancelling_closes_the_upstream_and_ends_the_open_stream(
    client: OpenAiJs, system: System, model: str
) -> None:
    await client.open("responses.create", {**asked(model=model, **FOR_EVER), "background": True, "stream": True})
    events = await client.read(type="response.output_text.delta")

    cancelled = await client.call("responses.cancel", events[0]["response"]["id"])
    events += await client.read()

    assert cancelled["status"] == "cancelled"
    assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
    await system.upstream.until_closed(model)


async def test_a_deleted_response_is_not_found(client: OpenAiJs, model: str) -> None:
    response = await client.call("responses.create", asked(model=model, tokens=1))

    await client.call("responses.delete", response["id"])

    with pytest.raises(Raised) as raised:
        await client.call("responses.retrieve", response["id"])
    assert (raised.value.kind, raised.value.code) == ("NotFoundError", "response_not_found")


async def test_the_client_reads_each_page_of_a_list(client: OpenAiJs) -> None:
    listed = await client.call("models.list")

    assert [model["id"] for model in listed["data"]] == ["scripted"]
    assert (await client.call("models.retrieve", "scripted"))["id"] == "scripted"


# --- Errors


@pytest.mark.parametrize(
    ("path", "given", "options", "kind", "status", "code"),
    [
        ("models.list", [], {"apiKey": "sk-nobody"}, "AuthenticationError", 401, "invalid_api_key"),
        ("models.retrieve", ["no/body"], {}, "NotFoundError", 404, "model_not_found"),
        ("responses.retrieve", ["resp_1"], {}, "NotFoundError", 404, "response_not_found"),
        (CREATE, [{"model": "unknown-7b", "messages": HELLO}], {}, "NotFoundError", 404, "model_not_found"),
        (CREATE, [{"model": "m", "messages": HELLO, "n": 0}], {}, "BadRequestError", 400, "invalid_request"),
        ("responses.create", [{"model": "m", "input": 7}], {}, "BadRequestError", 400, "invalid_request"),
        (
            CREATE,
            [ask(model="m", fault="refuse", code="insufficient_quota")],
            {},
            "RateLimitError",
            429,
            "insufficient_quota",
        ),
    ],
    ids=["key", "model", "response", "upstream's model", "chat", "input", "quota"],
)
async def test_an_error_that_can_not_pass_has_its_class_and_is_sent_once(
    client: OpenAiJs, path: str, given: list[Any], options: dict[str, Any], kind: str, status: int, code: str
) -> None:
    with pytest.raises(Raised) as raised:
        await client.call(path, *given, **options)

    assert (raised.value.kind, raised.value.status, raised.value.code) == (kind, status, code)
    assert (raised.value.request_id or "").startswith("req_")
    assert raised.value.sent == 1


async def test_the_client_retries_a_transient_failure_and_then_raises_it(
    client: OpenAiJs, system: System, model: str
) -> None:
    wanted = {
        429: ("RateLimitError", 429, "rate_limit_exceeded"),
        500: ("InternalServerError", 502, "server_error"),
        503: ("InternalServerError", 503, "provider_overloaded"),
    }

    # At once, since the client takes its time.
    raised = await client.all(
        [(CREATE, ask(model=f"{model}-{says}", http={"status": says, "body": {}})) for says in wanted]
    )

    assert [(each.kind, each.status, each.code, each.sent) for each in raised] == [(*of, 3) for of in wanted.values()]
    for says in wanted:
        assert len(await system.upstream.requests(f"{model}-{says}")) == 3


async def test_another_body_under_an_idempotency_key_is_refused_once(client: OpenAiJs, model: str) -> None:
    key = {"defaultHeaders": {"Idempotency-Key": f"key-{model}"}}
    request = ask(model=model, tokens=3)

    first, again = [await client.call(CREATE, request, **key) for _ in range(2)]
    with pytest.raises(Raised) as raised:
        await client.call(CREATE, {**request, "temperature": 1}, **key)

    assert first == again
    assert (raised.value.kind, raised.value.code, raised.value.sent) == (
        "UnprocessableEntityError",
        "idempotency_conflict",
        1,
    )


async def test_a_failure_in_mid_answer_is_thrown_while_iterating_and_by_the_helper(
    client: OpenAiJs, model: str
) -> None:
    request = streamed(model=model, text="one two three", fault="truncate", after=2)

    await client.open(CREATE, request)
    chunks = await client.read(3)  # a role and two words
    with pytest.raises(Raised) as raised:
        await client.read()
    with pytest.raises(Raised) as helped:
        await client.helped(STREAM, request, final=["finalContent"])

    assert text_of(chunks) == "one two "
    for error in (raised.value, helped.value):
        assert (error.kind, error.status, error.code) == ("APIError", None, "provider_truncated")


async def test_a_killed_gateway_is_an_error_and_never_the_end_of_an_answer(
    processes: Processes, main_prefix: str, client: OpenAiJs, system: System, model: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    request = {**asked(model=model, tokens=30, rate=60), "background": True, "stream": True}

    await client.open("responses.create", request, baseURL=f"{gateway.url}/v1")
    events = await client.read(type="response.output_text.delta")
    await gateway.crash()
    with pytest.raises(Raised):
        await client.read(type="response.completed")
    after = {"stream": True, "starting_after": events[-1]["sequence_number"]}
    await client.open("responses.retrieve", events[0]["response"]["id"], after)
    events += await client.read()

    assert said(events) == expected_text(ask(model=model, tokens=30))
    assert len(await system.upstream.requests(model)) == 1


# --- Leaving


# In mid-answer a stream's call is over: see below.
@pytest.mark.parametrize(
    ("stream", "after"), [(False, 0), (False, 2), (True, 0)], ids=["before", "in mid-answer", "before a stream"]
)
async def test_an_abort_closes_the_upstream(
    client: OpenAiJs, system: System, model: str, stream: bool, after: int
) -> None:
    request = {**ask(model=model, **{**FOR_EVER, "after": after}), "stream": stream}

    await client.begin(CREATE, request)
    await system.upstream.until_asked(model)
    await client.abort()

    with pytest.raises(Raised) as raised:
        await client.end()
    assert (raised.value.kind, raised.value.sent) == ("APIUserAbortError", 1)
    await system.upstream.until_closed(model)


@pytest.mark.parametrize("how", ["abort", "leave"])
async def test_a_caller_that_disconnects_in_mid_answer_closes_the_upstream(
    client: OpenAiJs, system: System, model: str, how: str
) -> None:
    await client.open(CREATE, streamed(model=model, **FOR_EVER))
    chunks = await client.read(3)

    await (client.abort() if how == "abort" else client.leave())

    assert text_of(chunks) == "one two "
    await system.upstream.until_closed(model)
