"""Fold responses, by the accumulator and the types of openai-python."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.folded.answer import Answer, Call, Trouble, counts, failed, payloads

_RESPONSE_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSE_CODES = ("context_length_exceeded", "insufficient_quota")
"""Error codes that Codex knows and the types of openai-python do not list."""


def fold_response(body: Mapping[str, Any]) -> Answer:
    """A whole response."""
    Response.model_validate(_listed(body), strict=True)
    output = body["output"]
    contents = [part for item in output if item["type"] == "message" for part in item["content"]]
    calls = [item for item in output if item["type"] in ("function_call", "custom_tool_call")]
    trouble = Trouble(body["error"]["message"], body["error"]["code"]) if body["error"] else None
    return Answer(
        text="".join(part["text"] for part in contents if part["type"] == "output_text"),
        reasoning="".join(map(_thought, (item for item in output if item["type"] == "reasoning"))),
        refusal="".join(part["refusal"] for part in contents if part["type"] == "refusal"),
        calls=tuple(map(_response_call, calls)),
        finish=None if trouble else _response_finish(body, bool(calls)),
        trouble=trouble,
        usage=counts(body.get("usage"), "input_tokens", "output_tokens", "total_tokens"),
        raw=body,
    )


def _listed(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """A response with an error code of the client's types, which lack two codes that OpenAI's servers send."""
    if response["error"] is None or response["error"]["code"] not in RESPONSE_CODES:
        return response
    return {**response, "error": {**response["error"], "code": "server_error"}}


def _thought(item: Mapping[str, Any]) -> str:
    text = "".join(part["text"] for part in item.get("content") or ())
    summary = "".join(part["text"] for part in item.get("summary") or ())
    assert not (text and summary) or text == summary
    return text or summary


def _response_call(item: Mapping[str, Any]) -> Call:
    arguments = item["input"] if item["type"] == "custom_tool_call" else item["arguments"]
    known = ("id", "type", "status", "call_id", "name", "input", "arguments")
    extra = {name: value for name, value in item.items() if name not in known and value is not None}
    return Call(item["call_id"], item["name"], arguments, extra)


def _response_finish(body: Mapping[str, Any], calls: bool) -> str:
    match body["status"]:
        case "completed":
            return "tool_calls" if calls else "stop"
        case "incomplete":
            reason: str = body["incomplete_details"]["reason"]
            return "length" if reason == "max_output_tokens" else reason
    raise AssertionError(body["status"])


def fold_response_stream(body: bytes) -> Answer:
    """A response's events, by openai-python's accumulator. `raw` has the last response, `events` beside it."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=[], text_format=omit)
    events = [json.loads(payload) for payload in payloads(body)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        shown = {**event, "response": _listed(event["response"])} if "response" in event else event
        state.handle_event(_RESPONSE_EVENTS.validate_python(shown, strict=True))
    if events[-1]["type"] == "error":
        return failed(Trouble(events[-1]["message"], events[-1]["code"]), events)
    last = events[-1]["response"]
    answer = fold_response(last)
    assert _streamed(events) == _written(last["output"])
    return replace(answer, raw={**last, "events": events})


def _streamed(events: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """The text of each item's deltas, by item and kind."""
    texts: dict[tuple[str, str], str] = {}
    announced: dict[str, Mapping[str, Any]] = {}
    for event in events:
        match event["type"].split("."):
            case ["response", "output_item", "added"]:
                announced[event["item"]["id"]] = event["item"]
                if event["item"]["type"].endswith("_call"):
                    assert event["item"]["name"] and event["item"]["call_id"]
            case ["response", kind, "delta"]:
                place = event["item_id"], kind
                texts[place] = texts.get(place, "") + event["delta"]
            case ["response", "output_item", "done"]:
                begun, item = announced[event["item"]["id"]], event["item"]
                same = ("id", "type", "call_id", "name")
                assert [begun.get(name) for name in same] == [item.get(name) for name in same]
    return texts


def _written(output: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    texts: dict[tuple[str, str], str] = {}
    for item in output:
        match item["type"]:
            case "function_call":
                texts[item["id"], "function_call_arguments"] = item["arguments"]
            case "custom_tool_call":
                texts[item["id"], "custom_tool_call_input"] = item["input"]
            case "reasoning":
                texts[item["id"], "reasoning_text"] = "".join(part["text"] for part in item.get("content") or ())
                texts[item["id"], "reasoning_summary_text"] = "".join(part["text"] for part in item["summary"])
            case "message":
                for part in item["content"]:
                    place = item["id"], part["type"]
                    texts[place] = texts.get(place, "") + part.get("text", part.get("refusal"))
    return {place: text for place, text in texts.items() if text}
