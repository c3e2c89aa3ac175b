"""Responses of OpenAI's own Python clients, unchanged but for `base_url` and `api_key`, against real processes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.clients.sdk import BREAKS_FRAMES, CALL, WEATHER, Sdk, client_of
from tests.clients.system import System
from tests.support.processes import Processes
from tests.support.upstream import ask, expected_text
from tests.support.valkey import fresh_prefix

pytestmark = pytest.mark.asyncio(loop_scope="package")

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
PATCH = '*** Begin "Patch"\n+ naïve 🌊\n'
AGENT_CALLS = [{"name": "patch", "arguments": {"input": PATCH}}, {"name": "spawn", "arguments": WEATHER}]
AGENT_TOOLS: list[dict[str, Any]] = [
    {"type": "custom", "name": "patch", "description": "Change files."},
    {"type": "namespace", "name": "agents", "description": "Others.", "tools": [{**TOOL, "name": "spawn"}]},
]
HOSTED = {"type": "web_search"}
BEGINNING = ["response.created", "response.queued", "response.in_progress"]


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=["OpenAI", "AsyncOpenAI"])
async def sdk(request: pytest.FixtureRequest, system: System) -> AsyncIterator[Sdk]:
    """Open each of the two clients; a failed request is not sent again."""
    async with client_of(request.param, system, max_retries=0) as opened:
        yield opened


def asked(*, model: str, **script: Any) -> dict[str, Any]:
    """Return the parameters of a response that carries this script."""
    (message,) = ask(model=model, **script)["messages"]
    return {"model": model, "input": message["content"]}


def said(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def types(events: list[Any]) -> list[str]:
    return [event.type for event in events]


async def until_type(stream: Any, wanted: str) -> list[Any]:
    """Read on until an event of this type."""
    events = [await stream.next()]
    while events[-1].type != wanted:
        events.append(await stream.next())
    return events


async def until_over(sdk: Sdk, response_id: str) -> Any:
    """Wait for the end of a response, through its stream."""
    async with sdk.responding(response_id) as stream:
        await stream.rest()
    return await sdk.retrieve(response_id)


# --- The form of a response


async def test_a_whole_response_has_text_status_and_usage(sdk: Sdk, model: str) -> None:
    request = asked(model=model, tokens=40)

    response = await sdk.respond(**request, instructions="Be brief.", metadata={"page": "7"})

    assert response.output_text == expected_text(ask(model=model, tokens=40))
    assert (response.status, response.model, response.error) == ("completed", model, None)
    assert (response.instructions, response.metadata) == ("Be brief.", {"page": "7"})
    assert response.usage.output_tokens == 40
    assert response.usage.total_tokens == response.usage.input_tokens + 40
    assert response._request_id.startswith("req_")
    assert (await sdk.retrieve(response.id)).to_dict() == response.to_dict()


async def test_a_stream_has_the_same_text_piece_by_piece(sdk: Sdk, model: str) -> None:
    async with sdk.responding(**asked(model=model, tokens=40)) as stream:
        events = await stream.rest()

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert said(events) == expected_text(ask(model=model, tokens=40))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == said(events)


async def test_the_stream_helper_adds_everything_up(sdk: Sdk, model: str) -> None:
    events, response = await sdk.helped_response(**asked(model=model, tokens=12, reasoning=2))

    assert response.output_text == expected_text(ask(model=model, tokens=12))
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].content[0].text == "thought 0. thought 1. "
    assert events[-1].type == "response.completed"


async def test_a_text_that_looks_like_frames_arrives_as_it_was(sdk: Sdk, model: str) -> None:
    request = asked(model=model, text=BREAKS_FRAMES)

    async with sdk.responding(**request) as stream:
        events = await stream.rest()

    assert said(events) == BREAKS_FRAMES == (await sdk.respond(**request)).output_text


async def test_structured_output_is_parsed(sdk: Sdk, model: str) -> None:
    class City(BaseModel):
        name: str

    request = asked(model=model, text='{"name": "Łódź"}')
    _, response = await sdk.helped_response(**request, text_format=City)

    assert response.output_parsed == City(name="Łódź")
    assert response.text.format.name == "City"


async def test_a_tools_call_and_its_answer_make_a_conversation(sdk: Sdk, model: str) -> None:
    first = await sdk.respond(**asked(model=model, tool_calls=[CALL]), tools=[TOOL], tool_choice="required")
    (call,) = first.output
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    second = await sdk.respond(model=model, input=[output], tools=[TOOL], previous_response_id=first.id)

    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", WEATHER)
    assert second.previous_response_id == first.id
    items = await sdk.input_items(second.id, order="asc", limit=1)
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]


async def test_the_stream_helper_shows_a_summary_that_was_asked_for(sdk: Sdk, model: str) -> None:
    events, response = await sdk.helped_response(
        **asked(model=model, tokens=2, reasoning=2), reasoning={"summary": "auto"}
    )

    deltas = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert deltas == ["thought 0. ", "thought 1. "]
    assert response.output[0].summary[0].text == response.output[0].content[0].text == "thought 0. thought 1. "


async def test_the_stream_helper_reads_custom_tools_and_those_of_a_namespace(sdk: Sdk, model: str) -> None:
    events, response = await sdk.helped_response(**asked(model=model, tool_calls=AGENT_CALLS), tools=AGENT_TOOLS)

    patch, agent = response.output
    assert (patch.type, patch.name, patch.input) == ("custom_tool_call", "patch", PATCH)
    assert (agent.type, agent.namespace, agent.name, json.loads(agent.arguments)) == (
        *("function_call", "agents", "spawn"),
        WEATHER,
    )
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH


async def test_an_answer_that_was_cut_short_is_incomplete(sdk: Sdk, model: str) -> None:
    response = await sdk.respond(**asked(model=model, tokens=30), max_output_tokens=16)

    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


# --- In the background


async def test_a_background_response_can_be_polled_to_its_end(sdk: Sdk, model: str) -> None:
    created = await sdk.respond(**asked(model=model, tokens=20, rate=200), background=True)

    last = await until_over(sdk, created.id)

    assert created.status in ("queued", "in_progress")
    assert (last.status, last.background) == ("completed", True)
    assert last.output_text == expected_text(ask(model=model, tokens=20))


@pytest.mark.parametrize("seen", [1, 2, 4, 7])
async def test_a_stream_that_was_left_continues_after_any_event_and_was_never_interrupted(
    sdk: Sdk, system: System, model: str, seen: int
) -> None:
    request = asked(model=model, tokens=20, rate=100)

    async with sdk.responding(**request, background=True) as stream:
        events = [await stream.next() for _ in range(seen)]
    response_id, after = events[0].response.id, events[-1].sequence_number
    async with sdk.responding(response_id, starting_after=after) as stream:
        events.append(await stream.next())
    async with sdk.responding(response_id, starting_after=events[-1].sequence_number) as stream:
        events += await stream.rest()
    async with sdk.responding(response_id) as stream:
        replay = await stream.rest()

    assert events == replay
    assert types(events)[:3] == BEGINNING
    assert said(events) == events[-1].response.output_text == expected_text(ask(model=model, tokens=20))
    assert len(await system.upstream.requests(model)) == 1


async def test_the_helper_resumes_a_background_response(sdk: Sdk, model: str) -> None:
    async with sdk.responding(**asked(model=model, tokens=20, rate=200), background=True) as stream:
        created = await stream.next()

    events, response = await sdk.helped_response(response_id=created.response.id, starting_after=4)

    assert events[0].sequence_number == 5
    assert response.output_text == expected_text(ask(model=model, tokens=20))


async def test_a_killed_gateway_is_an_error_and_another_gateway_continues(
    processes: Processes, main_prefix: str, sdk: Sdk, system: System, model: str
) -> None:
    gateway = await processes.gateway(key_prefix=main_prefix)
    request = asked(model=model, tokens=30, rate=60)
    site = System(gateway.url, system.upstream)
    async with (
        client_of("AsyncOpenAI", site, max_retries=0) as dying,
        dying.responding(**request, background=True) as stream,
    ):
        events = await until_type(stream, "response.output_text.delta")
        await gateway.crash()
        with pytest.raises(openai.APIConnectionError):
            await until_type(stream, "response.completed")
    async with sdk.responding(events[0].response.id, starting_after=events[-1].sequence_number) as stream:
        events += await stream.rest()

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert said(events) == expected_text(ask(model=model, tokens=30))


async def test_cancelling_closes_the_upstream_and_ends_open_streams(sdk: Sdk, system: System, model: str) -> None:
    request = asked(model=model, text="one two three", fault="stall", after=2)
    async with sdk.responding(**request, background=True) as stream:
        events = await until_type(stream, "response.output_text.delta")
        cancelled = await sdk.cancel_response(events[0].response.id)
        events += await stream.rest()
    again = await sdk.cancel_response(cancelled.id)

    await system.upstream.until_closed(model)
    assert (cancelled.status, again.status) == ("cancelled", "cancelled")
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.status == "cancelled"
    assert (await sdk.retrieve(cancelled.id)).status == "cancelled"


async def test_a_deleted_response_is_not_found_and_its_upstream_is_closed(sdk: Sdk, system: System, model: str) -> None:
    request = asked(model=model, text="one two three", fault="stall", after=2)
    async with sdk.responding(**request, background=True) as stream:
        events = await until_type(stream, "response.output_text.delta")
        await sdk.delete_response(events[0].response.id)
        events += await stream.rest()

    await system.upstream.until_closed(model)
    assert events[-1].type == "response.incomplete"
    with pytest.raises(openai.NotFoundError) as raised:
        await sdk.retrieve(events[0].response.id)
    assert raised.value.code == "response_not_found"


# --- A worker that dies


@pytest.mark.parametrize("shown", [False, True], ids=["before the answer", "in mid-answer"])
async def test_only_a_reader_that_saw_part_of_the_answer_notices_a_killed_worker(
    processes: Processes, system: System, model: str, shown: bool
) -> None:
    prefix = fresh_prefix()
    gateway = await processes.gateway(key_prefix=prefix)
    worker = await processes.worker(key_prefix=prefix, upstream_url=system.upstream.base_url)
    request = asked(model=model, text="one two three", fault="stall", after=2 * shown, stall_s=1.0)
    site = System(gateway.url, system.upstream)
    async with client_of("AsyncOpenAI", site, max_retries=0) as sdk:
        async with sdk.responding(**request, background=True) as stream:
            events = await until_type(stream, "response.output_text.delta" if shown else "response.in_progress")
            await system.upstream.until_asked(model)
            await worker.crash()
            await processes.worker(key_prefix=prefix, upstream_url=system.upstream.base_url)
            if shown:
                with pytest.raises(openai.APIError) as raised:
                    await stream.rest()
                assert raised.value.code == "rollback"
            else:
                events += await stream.rest()
                assert said(events) == "one two three"
        await site.end_of(events[0].response.id.replace("resp_", "job_"))
        last = await sdk.retrieve(events[0].response.id)

    assert (last.status, last.output_text) == ("completed", "one two three")


# --- Errors


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"tools": [HOSTED], "tool_choice": HOSTED}, "invalid_request", "tool_choice"),
        ({"truncation": "auto"}, "invalid_request", "truncation"),
        ({"previous_response_id": "resp_1"}, "invalid_request", "previous_response_id"),
    ],
    ids=["tools", "truncation", "previous"],
)
async def test_a_wrong_parameter_raises_a_bad_request_error(
    sdk: Sdk, model: str, parameters: dict[str, Any], code: str, param: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await sdk.respond(model=model, input="Hello?", stream=stream, **parameters)
        assert (raised.value.code, raised.value.param) == (code, param)


async def test_errors_raise_the_class_of_their_status(sdk: Sdk, system: System, model: str) -> None:
    with pytest.raises(openai.NotFoundError):
        await sdk.retrieve("resp_01hf7yat000000000000000005")
    with pytest.raises(openai.NotFoundError):
        await sdk.respond(**asked(model="unknown-" + model))
    with pytest.raises(openai.RateLimitError):
        await sdk.respond(**asked(model=model, fault="refuse", code="rate_limit_exceeded"))
    with pytest.raises(openai.InternalServerError) as raised:
        await sdk.respond(**asked(model=model, fault="truncate"))
    assert raised.value.code == "provider_truncated"
    with pytest.raises(openai.AuthenticationError):
        async with client_of("AsyncOpenAI", system, api_key="sk-nobody") as nobody:
            await nobody.respond(model=model, input="Hello?")


async def test_a_failure_in_mid_answer_is_a_failed_response(sdk: Sdk, model: str) -> None:
    async with sdk.responding(**asked(model=model, text="one two", fault="truncate", after=1)) as stream:
        events = await stream.rest()

    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    assert said(events) == "one "


async def test_leaving_a_foreground_stream_closes_the_upstream(sdk: Sdk, system: System, model: str) -> None:
    async with sdk.responding(**asked(model=model, text="one two three", fault="stall", after=2)) as stream:
        events = await until_type(stream, "response.output_text.delta")

    await system.upstream.until_closed(model)
    last = await until_over(sdk, events[0].response.id)
    assert last.status == "cancelled"


async def test_the_same_job_is_read_natively_as_chat_and_as_a_response(sdk: Sdk, system: System, model: str) -> None:
    async with sdk.responding(**asked(model=model, tokens=20, rate=100), background=True) as stream:
        first = await stream.next()
        job_id = first.response.id.replace("resp_", "job_")
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events") as native:
            texts = [event.json().get("content", "") for event in await native.events() if event.type == "delta"]
        events = [first, *await stream.rest()]

    assert "".join(texts) == said(events)
