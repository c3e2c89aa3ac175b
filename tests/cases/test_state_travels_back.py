"""A provider that demands its thoughts and signatures back after a tool call gets them, in every dialect.

Each upstream here is strict: it refuses the second turn as DeepSeek or Gemini do if its state is missing.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from tests.cases.dialects import BACKGROUND, respond
from tests.cases.stage import Stage
from tests.support.folded import fold_response, fold_response_stream
from tests.support.raw_upstream import Body, Raw, as_json, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

THOUGHT = "I must look."
SIGNATURE = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
ARGUMENTS = '{"city":"Paris"}'
RESULT = "12 degrees"
TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
QUESTION = {"role": "user", "content": "How warm is it?"}
FINISHED = said({"content": "It has 12 degrees."})


def fragment(**more: Any) -> dict[str, Any]:
    """Return the call that the upstream makes."""
    return {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ARGUMENTS}, **more}


def calling(*first: dict[str, Any], **more: Any) -> Raw:
    """Return the first turn: these deltas, and a call."""
    return said(*first, {"tool_calls": [fragment(**more)]}, finish="tool_calls")


def refused(message: str) -> Raw:
    """Return the refusal of a second turn."""
    return as_json({"error": {"message": message, "type": "invalid_request_error", "code": None}}, 400)


def _assistant(body: Body) -> Mapping[str, Any]:
    """The message with the call; its result must stand directly behind it."""
    (at,) = (at for at, message in enumerate(body["messages"]) if message.get("tool_calls"))
    assert body["messages"][at + 1] == {"role": "tool", "tool_call_id": "c1", "content": RESULT}
    message: Mapping[str, Any] = body["messages"][at]
    assert [call["function"] for call in message["tool_calls"]] == [{"name": "look", "arguments": ARGUMENTS}]
    return message


def thinking(body: Body) -> Raw:
    """DeepSeek, Kimi, MiniMax."""
    if len(body["messages"]) == 1:
        return calling({"reasoning_content": THOUGHT[:6]}, {"reasoning_content": THOUGHT[6:]})
    if _assistant(body).get("reasoning_content") != THOUGHT:
        return refused("The `reasoning_content` in the thinking mode must be passed back to the API.")
    return FINISHED


def speaking(body: Body) -> Raw:
    """Return a thinking model that says something before it calls."""
    if len(body["messages"]) == 1:
        return calling({"reasoning_content": THOUGHT}, {"content": "Let me see."})
    message = _assistant(body)
    if (message.get("reasoning_content"), message["content"]) != (THOUGHT, "Let me see."):
        return refused("The `reasoning_content` in the thinking mode must be passed back to the API.")
    return FINISHED


def signing(body: Body) -> Raw:
    """Gemini 3."""
    if len(body["messages"]) == 1:
        return calling(extra_content=SIGNATURE)
    (call,) = _assistant(body)["tool_calls"]
    if call.get("extra_content") != SIGNATURE:
        return refused("Function call is missing a thought_signature in functionCall parts.")
    return FINISHED


def both(body: Body) -> Raw:
    """Return an upstream that demands both."""
    if len(body["messages"]) == 1:
        return calling({"reasoning_content": THOUGHT}, extra_content=SIGNATURE)
    message = _assistant(body)
    (call,) = message["tool_calls"]
    if message.get("reasoning_content") != THOUGHT or call.get("extra_content") != SIGNATURE:
        return refused("Something is missing.")
    return FINISHED


every_upstream = pytest.mark.parametrize(
    "upstream", [thinking, speaking, signing, both], ids=lambda each: each.__name__
)


# --- Responses


Second = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Given the first response, the fields that ask for the second."""


def _output(first: Mapping[str, Any]) -> dict[str, Any]:
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    return {"type": "function_call_output", "call_id": call["call_id"], "output": RESULT}


def by_previous_response_id(first: Mapping[str, Any]) -> dict[str, Any]:
    """Refer to the previous turn; the service remembers it."""
    return {"previous_response_id": first["id"], "input": [_output(first)]}


def by_whole_input(first: Mapping[str, Any]) -> dict[str, Any]:
    """Send all items back as they came: openai-agents, LangChain, Codex."""
    return {"input": [QUESTION, *first["output"], _output(first)]}


def by_references(first: Mapping[str, Any]) -> dict[str, Any]:
    """Items are named by their ids: the AI SDK, when responses are stored."""
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    return {"input": [QUESTION, *references, _output(first)]}


def _reduced(item: Mapping[str, Any]) -> dict[str, Any]:
    """Send an item back as a typed client does that knows only OpenAI's fields."""
    known = {
        "reasoning": ("type", "id", "summary", "content", "encrypted_content"),
        "message": ("type", "id", "role", "status", "content"),
        "function_call": ("type", "id", "call_id", "name", "arguments", "status"),
    }[item["type"]]
    return {name: item[name] for name in known if name in item}


def by_known_fields(first: Mapping[str, Any]) -> dict[str, Any]:
    """Items are sent back without the fields that OpenAI's types lack: pydantic-ai."""
    return {"input": [QUESTION, *map(_reduced, first["output"]), _output(first)]}


def _as_the_ai_sdk(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["type"] == "reasoning":
        texts = [part["text"] for part in (*item["summary"], *(item.get("content") or ()))]
        summary = [{"type": "summary_text", "text": text} for text in dict.fromkeys(texts)]
        return {"type": "reasoning", "id": item["id"], "encrypted_content": None, "summary": summary}
    if item["type"] == "message":
        texts = [{"type": "output_text", "text": part["text"]} for part in item["content"]]
        return {"role": "assistant", "id": item["id"], "content": texts}
    return {name: item[name] for name in ("type", "id", "call_id", "name", "arguments")}


def by_summaries(first: Mapping[str, Any]) -> dict[str, Any]:
    """Thoughts are sent back as summaries: the AI SDK with `store: false`."""
    return {"input": [QUESTION, *map(_as_the_ai_sdk, first["output"]), _output(first)]}


every_way = pytest.mark.parametrize(
    "second",
    [by_previous_response_id, by_whole_input, by_references, by_known_fields, by_summaries],
    ids=lambda each: each.__name__,
)


@every_upstream
@every_way
async def test_the_second_turn_of_a_response_has_the_state_of_the_first(
    stage: Stage, model: str, upstream: Callable[[Body], Raw], second: Second
) -> None:
    stage.upstream.play(model, upstream)
    first = (await respond(stage, model, input=[QUESTION], tools=TOOLS)).json()

    reply = await respond(stage, model, tools=TOOLS, **second(first))

    assert reply.status == 200, reply.body
    assert fold_response(reply.json()).text == "It has 12 degrees."
    assert len(stage.upstream.asked(model)) == 2


@every_upstream
async def test_a_streamed_response_leads_to_the_same_second_turn(
    stage: Stage, model: str, upstream: Callable[[Body], Raw]
) -> None:
    stage.upstream.play(model, upstream)
    reasoning = {"summary": "auto"}
    streamed = await respond(stage, model, input=[QUESTION], tools=TOOLS, stream=True, reasoning=reasoning)
    first = fold_response_stream(streamed.body).raw

    replies = [
        await respond(stage, model, tools=TOOLS, reasoning=reasoning, **second(first))
        for second in (by_whole_input, by_summaries, by_previous_response_id)
    ]

    assert [reply.status for reply in replies] == [200, 200, 200], [reply.body for reply in replies]


@every_upstream
async def test_a_background_response_leads_to_the_same_second_turn(
    stage: Stage, model: str, upstream: Callable[[Body], Raw]
) -> None:
    stage.upstream.play(model, upstream)
    first = await BACKGROUND.ask(stage, model, input=[QUESTION], tools=TOOLS)

    reply = await respond(stage, model, tools=TOOLS, **by_previous_response_id(first.raw))

    assert reply.status == 200, reply.body


async def test_a_response_that_is_not_stored_keeps_its_state_in_its_items(stage: Stage, model: str) -> None:
    stage.upstream.play(model, thinking)
    options = {"tools": TOOLS, "store": False, "include": ["reasoning.encrypted_content"]}
    first = (await respond(stage, model, input=[QUESTION], **options)).json()

    reply = await respond(stage, model, **options, **by_whole_input(first))

    assert reply.status == 200, reply.body


async def test_a_third_turn_has_the_state_of_both(stage: Stage, model: str) -> None:
    asked: list[list[Mapping[str, Any]]] = []

    def twice(body: Body) -> Raw:
        asked.append(body["messages"])
        number = len(asked)
        call = {"index": 0, "id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        thought = {"reasoning_content": f"Thought {number}."}
        return said(thought, {"tool_calls": [call]}, finish="tool_calls") if number < 3 else FINISHED

    stage.upstream.play(model, twice)
    response = (await respond(stage, model, input=[QUESTION], tools=TOOLS)).json()
    for _ in range(2):
        response = (await respond(stage, model, tools=TOOLS, **by_previous_response_id(response))).json()

    assert fold_response(response).text == "It has 12 degrees."
    thoughts = [message["reasoning_content"] for message in asked[-1] if message["role"] == "assistant"]
    assert thoughts == ["Thought 1.", "Thought 2."]


# --- Chat completions: the caller sends the state itself

CHAT_TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def _chat_message(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    message: Mapping[str, Any] = completion["choices"][0]["message"]
    return message


Ask = Callable[[Stage, str, list[Any]], Awaitable[Mapping[str, Any]]]


@every_upstream
async def test_the_second_turn_of_a_chat_has_the_state_that_its_caller_sends_back(
    stage: Stage, model: str, upstream: Callable[[Body], Raw]
) -> None:
    stage.upstream.play(model, upstream)
    body = {"model": model, "messages": [QUESTION], "tools": CHAT_TOOLS}
    first = await stage.client.post("/v1/chat/completions", body)
    message = _chat_message(first.json())
    result = {"role": "tool", "tool_call_id": "c1", "content": RESULT}

    second = await stage.client.post("/v1/chat/completions", {**body, "messages": [QUESTION, message, result]})

    assert second.status == 200, second.body
    assert _chat_message(second.json())["content"] == "It has 12 degrees."
