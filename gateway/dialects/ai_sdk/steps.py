"""Translate a page's message of an assistant into the messages of a chat, step by step. Pure.

The AI SDK keeps all steps of an answer in one message: reasoning, text, the calls of a step and their results. Not
here: messages of users, and the check of the parts (request.py).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dialects.ai_sdk.stream import METADATA

_DENIED = "The user did not allow this call."
_OWN = frozenset({"index", "id", "type", "function", "custom"})
# `ai` 6 and 7 put the metadata of a call into the second one if its arguments were not JSON.
_METADATA_FIELDS = ("callProviderMetadata", "resultProviderMetadata")

Part = Mapping[str, Any]


def assistant_messages(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Translate the parts of an assistant's message. Each step is a message, followed by the results of its calls."""
    messages: list[dict[str, Any]] = []
    step: list[Part] = []
    for part in (*parts, {"type": "step-start"}):
        if part["type"] == "step-start":
            messages += _step(step)
            step = []
        else:
            step.append(part)
    return messages


def _step(parts: Sequence[Part]) -> list[dict[str, Any]]:
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    calls, results = [], []
    for part in parts:
        # Upstreams refuse a call without a result; the page may never have made it.
        if _is_tool(part) and (result := _result(part)) is not None:
            calls.append(_call(part))
            results.append({"role": "tool", "tool_call_id": part["toolCallId"], "content": result})
    if not text and not calls:
        return []
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    # Thinking models demand the thoughts that led to a call.
    if thoughts := "".join(part["text"] for part in parts if part["type"] == "reasoning"):
        message["reasoning_content"] = thoughts
    if calls:
        message["tool_calls"] = calls
    return [message, *results]


def _is_tool(part: Part) -> bool:
    part_type: str = part["type"]
    return part_type == "dynamic-tool" or part_type.startswith("tool-")


def _call(part: Part) -> dict[str, Any]:
    name = part["toolName"] if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
    extra = _extra(part)
    further = {field: value for field, value in extra.items() if field not in _OWN}
    if extra.get("type") == "custom":
        kind, body = "custom", {"name": name, "input": _as_text(part.get("input", ""))}
    else:
        kind, body = "function", {"name": name, "arguments": _arguments(part)}
    if isinstance(inner := extra.get(kind), dict):
        body = {**inner, **body}
    return {"id": part["toolCallId"], "type": kind, kind: body, **further}


def _extra(part: Part) -> Mapping[str, Any]:
    """Return the further fields of an upstream's call, which travelled through the page."""
    for name in _METADATA_FIELDS:
        metadata = part.get(name)
        if isinstance(metadata, dict) and isinstance(extra := metadata.get(METADATA), dict):
            return extra
    return {}


def _arguments(part: Part) -> str:
    """Return the arguments as the model wrote them: JSON, but for a call that failed because they were not."""
    given = part.get("input")
    if given is None:
        given = part.get("rawInput")
    if given is None:
        return "{}"
    return given if isinstance(given, str) and part["state"] == "output-error" else _as_json(given)


def _result(part: Part) -> str | None:
    """Return the result of a tool's call, if there is one."""
    match part["state"]:
        case "output-available":
            return _as_text(part.get("output"))
        case "output-error":
            return str(part.get("errorText") or "The call failed.")
        case "output-denied":
            return _DENIED
        case _:
            return None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
