"""The bodies of an upstream's answers: events, errors and whole completions. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.upstream.script import Answer, WireScript
from worker.upstream.providers.scripted import perform

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def question(request: Mapping[str, Any]) -> str:
    """Return the key by which two requests are the same, even if the second one has a part of the answer."""
    return str([message for message in request.get("messages", ()) if message.get("role") == "user"])


def is_token(chunk: Mapping[str, Any]) -> bool:
    """Return whether a chunk has a text of any choice."""
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def event(data: bytes) -> bytes:
    """Return an event of a stream with these data."""
    return b"data: %b\n\n" % data


def error(message: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """Return the error object of OpenAI."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def refusal(status: int, message: str, code: str | None, param: str | None = None) -> Answer:
    """Return an answer that holds an error."""
    return Answer(status=status, body=error(message, code, param))


def whole(request: Mapping[str, Any], script: WireScript) -> dict[str, Any]:
    """Return the stream's chunks, added up to one `chat.completion`."""
    chunks = [chunk for chunk in perform(request, script) if chunk is not None]
    said: dict[int, list[dict[str, Any]]] = {}
    reasons: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        said.setdefault(choice["index"], []).append(choice["delta"])
        if reason := choice.get("finish_reason"):
            reasons[choice["index"]] = reason
    return {
        **chunks[0],
        "object": "chat.completion",
        "choices": [{"index": i, "message": _message(said[i]), "finish_reason": reasons[i]} for i in said],
        "usage": chunks[-1].get("usage"),
    }


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(d.get("content", "") for d in deltas)}
    if thoughts := [d["reasoning_content"] for d in deltas if "reasoning_content" in d]:
        message["reasoning_content"] = "".join(thoughts)
    for part in (part for d in deltas for part in d.get("tool_calls", ())):
        calls = message.setdefault("tool_calls", [])
        if "id" in part:
            calls.append({"id": part["id"], "type": "function", "function": {**part["function"]}})
        else:
            calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    return message
