"""A request with `functions` gets its call as `function_call`, in whichever of the two shapes the upstream sends it."""

import json
from typing import Any

import pytest

from tests.cases.stage import Stage
from tests.support.folded import DONE, payloads
from tests.support.raw_upstream import Raw, as_json, completion, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

FUNCTIONS = [{"name": "look", "parameters": {"type": "object"}}]
CALL = {"name": "look", "arguments": '{"x":1}'}
TOOL_CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x"'}}
ANSWERS: dict[str, Raw] = {
    "tool_calls": said(
        {"tool_calls": [TOOL_CALL]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        finish="tool_calls",
    ),
    "function_call": said(
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": ""}},
        {"function_call": {"arguments": '{"x"'}},
        {"function_call": {"arguments": ":1}"}},
        finish="function_call",
    ),
    "whole": as_json(completion({"content": None, "function_call": CALL}, "function_call")),
}


def asked(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "?"}], "functions": FUNCTIONS, **fields}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_whole_answer_has_the_call_in_its_message(stage: Stage, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    reply = await stage.client.post("/v1/chat/completions", asked(model))

    (choice,) = reply.json()["choices"]
    message = {"role": "assistant", "content": None, "refusal": None, "function_call": CALL}
    assert (choice["message"], choice["finish_reason"]) == (message, "function_call")
    assert stage.upstream.asked(model)[0]["functions"] == FUNCTIONS
    again = await stage.client.get(f"/v1/chat/completions/{reply.json()['id']}")
    assert again.json() == reply.json()


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_stream_has_the_call_in_its_deltas_also_when_it_is_resumed(stage: Stage, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    reply = await stage.client.post("/v1/chat/completions", asked(model, stream=True))

    *chunks, done = payloads(reply.body)
    assert done == DONE
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    calls = [choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]]
    assert calls[0]["name"] == "look"
    assert "".join(call.get("arguments", "") for call in calls) == CALL["arguments"]
    assert not [choice for choice in choices if "tool_calls" in choice["delta"]]
    assert choices[-1]["finish_reason"] == "function_call"
    again = await stage.client.get(f"/v1/chat/completions/{json.loads(chunks[0])['id']}?stream=true")
    assert again.body == reply.body


async def test_with_tools_beside_the_functions_it_is_a_tool_call(stage: Stage, model: str) -> None:
    stage.upstream.play(model, ANSWERS["tool_calls"])
    tools = [{"type": "function", "function": FUNCTIONS[0]}]

    reply = await stage.client.post("/v1/chat/completions", asked(model, tools=tools))

    (choice,) = reply.json()["choices"]
    assert (choice["message"]["tool_calls"][0]["id"], choice["finish_reason"]) == ("c1", "tool_calls")
