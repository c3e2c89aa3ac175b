"""OpenAI's Responses, the asking side: a request becomes a chat request.

Above: api/responses.py, which reads earlier responses and submits the job. Below: response_items.py. Upstreams speak
chat completions; what they have no word for is refused, and the error names the field. Not here: the answer
(responses.py). Pure: data in, data out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.dialects.response_items import Item, Message, messages_of, need, object_of
from shared.errors import InvalidRequest
from shared.events import encode_data

_REFERENCE = "item_reference"
_ITEM_ID = re.compile(r"(?:msg|rs|fc)_([0-9a-z]{26})_\d+")
_LOGPROBS = "message.output_text.logprobs"
# What the response says again, as it was asked.
_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "previous_response_id"),
    *("prompt_cache_key", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text"),
    *("tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
)
# Fields that are read here; all others go to the upstream under their own names.
_READ = frozenset(
    {
        *("background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls"),
        *("metadata", "n", "parallel_tool_calls", "previous_response_id", "prompt", "reasoning", "store", "stream"),
        *("stream_options", "text", "tool_choice", "tools", "top_logprobs", "truncation"),
    }
)
_UNSUPPORTED = {
    "conversation": "conversation is not supported; continue a response with previous_response_id.",
    "prompt": "prompt templates are not supported; send their text as instructions and input.",
    "messages": "messages is a field of chat completions; a response is asked with input.",
}


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """What the body of `POST /v1/responses` asks for, checked.

    `chat` has the fields of the chat request but its messages; `echo` is what the response says again; `metadata` is as
    it came. `items` may hold references to other items.
    """

    streaming: bool
    background: bool
    stored: bool
    previous: str | None
    instructions: str
    items: Sequence[Item]
    metadata: object
    chat: Mapping[str, Any]
    echo: Mapping[str, Any]


def read_request(body: Mapping[str, Any]) -> ResponseRequest:
    """Read a request (OpenAI API reference, responses/create).

    Raises:
        InvalidRequest: names the field and what would be right.
    """
    for name, sentence in _UNSUPPORTED.items():
        if body.get(name) is not None:
            raise InvalidRequest(sentence, param=name)
    if body.get("n") not in (None, 1):
        raise InvalidRequest("n must be 1: a response is one answer.", param="n")
    if body.get("truncation") not in (None, "disabled"):
        raise InvalidRequest("truncation must be disabled: nothing is left out of a prompt here.", param="truncation")
    streaming, background = _flag(body, "stream", False), _flag(body, "background", False)
    stored = _flag(body, "store", True)
    if background and not stored:
        raise InvalidRequest("store must be true where background is: there is no other way to read it.", param="store")
    object_of(body.get("stream_options"), "stream_options")
    previous = _text(body, "previous_response_id")
    return ResponseRequest(
        streaming=streaming,
        background=background,
        stored=stored,
        previous=previous or None,
        instructions=_text(body, "instructions"),
        items=_items(body.get("input"), needed=not previous),
        metadata=body.get("metadata"),
        chat=_chat(body),
        echo={**{name: body[name] for name in _ECHOED if body.get(name) is not None}, "background": background},
    )


def chat_request(
    request: ResponseRequest, earlier: Sequence[Message], items: Iterable[Item], max_bytes: int
) -> dict[str, Any]:
    """The chat request: instructions, what was said `earlier`, and these items, whose references are resolved.

    Raises:
        InvalidRequest: an item can't be said in a chat, nothing is said at all, or it is over `max_bytes` in all.
    """
    messages = messages_of(items, earlier)
    if not messages:
        raise InvalidRequest("input must hold at least one message.", param="input")
    if request.instructions:
        messages.insert(0, {"role": "system", "content": request.instructions})
    chat = {**request.chat, "messages": messages}
    if (earlier or referenced_jobs(request.items)) and len(encode_data(chat)) > max_bytes:
        param = "previous_response_id" if earlier else "input"
        raise InvalidRequest(f"{param} leads to a conversation of over {max_bytes} bytes; send less.", param=param)
    return chat


def said_before(messages: Sequence[Message], echo: Mapping[str, Any]) -> Sequence[Message]:
    """The messages of an earlier chat request without its instructions, which count for one response only."""
    return messages[1:] if echo.get("instructions") else messages


# --- Fields


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    chat = {name: value for name, value in body.items() if name not in _READ and value is not None}
    if (limit := body.get("max_output_tokens")) is not None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidRequest("max_output_tokens must be a whole number from 1.", param="max_output_tokens")
        chat["max_completion_tokens"] = limit
    if (effort := object_of(body.get("reasoning"), "reasoning").get("effort")) is not None:
        chat["reasoning_effort"] = effort
    return chat | _text_options(body) | _tool_options(body) | _logprob_options(body)


def _text_options(body: Mapping[str, Any]) -> dict[str, Any]:
    text = object_of(body.get("text"), "text")
    options = {} if text.get("verbosity") is None else {"verbosity": text["verbosity"]}
    form = object_of(text.get("format"), "text.format")
    match form.get("type", "text"):
        case "text":
            return options
        case "json_object":
            return options | {"response_format": {"type": "json_object"}}
        case "json_schema":
            need(form, "text.format", name=str, schema=dict)
            schema = {name: value for name, value in form.items() if name != "type" and value is not None}
            return options | {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise InvalidRequest("text.format.type must be text, json_object or json_schema.", param="text.format.type")


def _tool_options(body: Mapping[str, Any]) -> dict[str, Any]:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools is None or tools == []:
        if choice not in (None, "auto", "none"):
            raise InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")
        return {}
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be a list of functions.", param="tools")
    options: dict[str, Any] = {"tools": [_tool(tool, f"tools[{n}]") for n, tool in enumerate(tools)]}
    if choice is not None:
        options["tool_choice"] = _tool_choice(choice)
    if body.get("parallel_tool_calls") is not None:
        options["parallel_tool_calls"] = _flag(body, "parallel_tool_calls", True)
    return options


def _tool(tool: object, where: str) -> dict[str, Any]:
    given = object_of(tool, where)
    if given.get("type") != "function":
        raise InvalidRequest(f"{where}.type must be function: no other tools are supported.", param=f"{where}.type")
    need(given, where, name=str)
    function = {
        name: given[name] for name in ("name", "description", "parameters", "strict") if given.get(name) is not None
    }
    return {"type": "function", "function": function}


def _tool_choice(choice: object) -> object:
    if choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    raise InvalidRequest(
        'tool_choice must be none, auto, required or {"type": "function", "name": ...}.', param="tool_choice"
    )


def _logprob_options(body: Mapping[str, Any]) -> dict[str, Any]:
    include = body.get("include")
    if include is not None and not isinstance(include, list):
        raise InvalidRequest("include must be a list of texts.", param="include")
    if _LOGPROBS not in (include or ()):
        return {}
    top = body.get("top_logprobs")
    return {"logprobs": True} if top is None else {"logprobs": True, "top_logprobs": top}


def _items(given: object, *, needed: bool) -> list[Item]:
    if given is None and not needed:
        return []
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or (needed and not given):
        raise InvalidRequest("input must be a text or a list of at least one item.", param="input")
    return [object_of(item, f"input[{n}]", optional=False) for n, item in enumerate(given)]


# --- References


def referenced_jobs(items: Iterable[Item]) -> list[str]:
    """The jobs whose output these items refer to: an item's id tells whose it is (responses.py makes them)."""
    found = (_ITEM_ID.fullmatch(str(item.get("id"))) for item in items if item.get("type") == _REFERENCE)
    return list(dict.fromkeys("job_" + match[1] for match in found if match))


def resolved(items: Iterable[Item], outputs: Mapping[str, Item]) -> list[Item]:
    """The same items, with those of `outputs`, by their ids, in place of references.

    Raises:
        InvalidRequest: there is no such item.
    """
    return [_resolved(item, outputs, f"input[{n}].id") for n, item in enumerate(items)]


def _resolved(item: Item, outputs: Mapping[str, Item], where: str) -> Item:
    if item.get("type") != _REFERENCE:
        return item
    if (found := outputs.get(str(item.get("id")))) is None:
        raise InvalidRequest(f"{where} must be the id of an item in a stored response's output.", param=where)
    return found


# --- Checks


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text.", param=name)
    return value
