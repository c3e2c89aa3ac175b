"""Translate messages of a chat into Responses' items: the input of a response, in any dialect of its job.

Pure. Not here: items as messages (items.py).
"""

import json
from collections.abc import Iterable
from typing import Any

from gateway.dialects.responses.item_ids import Item
from gateway.dialects.responses.items import CALL_FIELDS
from gateway.dialects.responses.parts import parts_of
from gateway.dialects.responses.tool_results import Message
from gateway.dialects.responses.tools import ToolNames

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def items_of(messages: Iterable[Message], job_id: str, names: ToolNames | None = None) -> list[Item]:
    """Translate the messages that a job's model was given; `names` has the upstream names of its tools."""
    bare = job_id.removeprefix("job_")
    shown = _Shown(names or ToolNames(()))
    items = [item for message in messages for item in shown.items(message)]
    return [{"id": f"{_PREFIXES[item['type']]}_{bare}_in_{n}", **item} for n, item in enumerate(items)]


class _Shown:
    """Write the items of messages. The calls before them distinguish results of custom tools from others."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._custom: set[str] = set()

    def items(self, message: Message) -> list[Item]:
        """Translate one message."""
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            return [self._result(message.get("tool_call_id"), content)]
        items: list[Item] = []
        if isinstance(thoughts := message.get("reasoning_content"), str) and thoughts:
            items.append(_done("reasoning", summary=[], content=[{"type": "reasoning_text", "text": thoughts}]))
        if content is not None:
            parts = parts_of(content, "output_text" if role == "assistant" else "input_text")
            items.append(_done("message", role=role, content=parts))
        for call in message.get("tool_calls") or ():
            match call:
                case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}, **rest}:
                    further = {str(key): value for key, value in rest.items() if key not in CALL_FIELDS}
                    items.append(self._call(call_id, name, arguments) | further)
        return items

    def _call(self, call_id: str, upstream: str, arguments: str) -> Item:
        declared = self._names.declaration(upstream)
        space = {} if declared.namespace is None else {"namespace": declared.namespace}
        if declared.custom:
            self._custom.add(call_id)
            text = _input_of(arguments)
            return _done("custom_tool_call", call_id=call_id, name=declared.name, **space, input=text)
        return _done("function_call", call_id=call_id, name=declared.name, **space, arguments=arguments)

    def _result(self, call_id: object, content: Any) -> Item:
        output = content if isinstance(content, str) else parts_of(content, "input_text")
        kind = "custom_tool_call_output" if call_id in self._custom else "function_call_output"
        return _done(kind, call_id=call_id, output=output)


def _input_of(arguments: str) -> str:
    """Read the only argument of a custom tool; arguments that are something else are shown as they are."""
    try:
        match json.loads(arguments):
            case {"input": str(text)}:
                return text
    except (ValueError, RecursionError):  # a nested value may be too deep to read
        pass
    return arguments


def _done(kind: str, **fields: Any) -> Item:
    return {"type": kind, "status": "completed", **fields}
