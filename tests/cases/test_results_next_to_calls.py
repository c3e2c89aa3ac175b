"""Results of tool calls are sent directly behind their calls, even if other items stood between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.cases.dialects import converse, respond
from tests.cases.stage import Stage
from tests.support.folded import fold_response, fold_ui
from tests.support.raw_upstream import Body, Raw, as_json, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
USER = {"role": "user", "content": "Hello?"}
NOTE = {"role": "user", "content": "Be quick."}


def fragment(number: int) -> dict[str, Any]:
    """Return a call of the upstream."""
    return {"index": number, "id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def call(number: int) -> dict[str, Any]:
    """Return the same as an item."""
    return {"type": "function_call", "call_id": f"c{number}", "name": "look", "arguments": "{}"}


def result(number: int) -> dict[str, Any]:
    """Its result as an item."""
    return {"type": "function_call_output", "call_id": f"c{number}", "output": f"result {number}"}


def demand_order(messages: Sequence[Mapping[str, Any]]) -> None:
    """OpenAI's and DeepSeek's rule: after each assistant's message with calls come its results, and nothing else."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls, messages
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls, messages
            open_calls = [each["id"] for each in message.get("tool_calls") or ()]
    assert not open_calls, messages


def strict(body: Body) -> Raw:
    """Return an upstream that calls a tool with a text before and after it, and refuses a chat in a wrong order."""
    if len(body["messages"]) == 1:
        deltas = [{"content": "Let me see."}, {"tool_calls": [fragment(0)]}, {"content": "\n"}]
        return said(*deltas, finish="tool_calls")
    try:
        demand_order(body["messages"])
    except AssertionError:
        message = "An assistant message with 'tool_calls' must be followed by tool messages responding to each call."
        return as_json({"error": {"message": message, "type": "invalid_request_error"}}, 400)
    return said({"content": "Done."})


@pytest.mark.parametrize("by", ["previous_response_id", "input"])
async def test_text_after_a_call_does_not_separate_it_from_its_result(stage: Stage, model: str, by: str) -> None:
    stage.upstream.play(model, strict)
    first = (await respond(stage, model, input=[USER], tools=TOOLS)).json()
    again = {"previous_response_id": first["id"], "input": [result(0)]}
    if by == "input":
        again = {"input": [USER, *first["output"], result(0)]}

    reply = await respond(stage, model, tools=TOOLS, **again)

    assert reply.status == 200, reply.body
    assert fold_response(reply.json()).text == "Done."
    messages = stage.upstream.asked(model)[1]["messages"]
    words = "".join(message.get("content") or "" for message in messages if message["role"] == "assistant")
    assert words == "Let me see.\n"


INPUTS: dict[str, list[dict[str, Any]]] = {
    "a user's message between": [USER, call(0), NOTE, result(0)],
    "a note between two results": [USER, call(0), call(1), result(0), NOTE, result(1)],
    "results in another order": [USER, call(0), call(1), result(1), result(0)],
    "an assistant's text between": [USER, call(0), {"role": "assistant", "content": "Hm."}, result(0)],
    "two calls with their results in turn": [USER, call(0), result(0), call(1), result(1)],
    "two rounds": [
        USER,
        call(0),
        NOTE,
        result(0),
        {"role": "assistant", "content": "So."},
        NOTE,
        call(1),
        NOTE,
        result(1),
    ],
    "reasoning between": [USER, call(0), {"type": "reasoning", "id": "rs_1", "summary": []}, result(0)],
}


@pytest.mark.parametrize("name", INPUTS)
async def test_messages_between_a_call_and_its_result_move_behind_the_result(
    stage: Stage, model: str, name: str
) -> None:
    stage.upstream.play(model, strict)

    reply = await respond(stage, model, tools=TOOLS, input=INPUTS[name])

    assert reply.status == 200, reply.body
    (body,) = stage.upstream.asked(model)
    demand_order(body["messages"])
    notes = [message["content"] for message in body["messages"] if message["role"] == "user"]
    assert notes == [item["content"] for item in INPUTS[name] if item.get("role") == "user"]
    results = {message["tool_call_id"]: message["content"] for message in body["messages"] if message["role"] == "tool"}
    assert results == {item["call_id"]: item["output"] for item in INPUTS[name] if item.get("output")}


async def test_a_page_sends_results_behind_their_calls_too(stage: Stage, model: str) -> None:
    stage.upstream.play(model, strict)
    user = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    first = fold_ui((await converse(stage, model, [user], tools=tools)).body)
    parts = [
        {**part, "state": "output-available", "output": "result 0"} if part["type"] == "tool-look" else part
        for part in first.raw["parts"]
    ]

    second = await converse(stage, model, [user, {**first.raw, "parts": parts}], tools=tools)

    assert (second.status, fold_ui(second.body).text) == (200, "Done.")
