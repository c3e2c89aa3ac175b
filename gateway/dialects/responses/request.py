"""Translate a request of OpenAI's Responses into a chat request. Pure.

Upstreams speak chat completions. A field without a counterpart there is refused by its name, or left out if its absence
does no harm. Not here: the answer (stream.py), and the use of each field (fields.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.dialects.chat_parameters import check_parameter
from gateway.dialects.responses.checks import flag, need, object_of, text_of
from gateway.dialects.responses.fields import LOGPROBS, SAME_NAME, check_fields, echo_of, unknown_fields
from gateway.dialects.responses.item_ids import Item, job_of
from gateway.dialects.responses.items import Answer, conversation_of
from gateway.dialects.responses.tool_offer import check_count, check_tools, tool_options
from gateway.dialects.responses.tool_results import Message
from gateway.dialects.responses.tools import ADDITIONAL_TOOLS, ToolNames
from shared.model.errors import InvalidRequest
from shared.model.events import encode_data

_REFERENCE = "item_reference"


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A checked body of `POST /v1/responses`.

    `chat` has the fields of the chat request except for its messages and tools. `echo` has those that the response
    repeats. `unknown` are names of fields that were left out. `items` may hold references to other items.
    """

    streaming: bool
    background: bool
    previous: str | None
    instructions: str
    items: Sequence[Item]
    chat: Mapping[str, Any]
    tool_choice: object
    parallel: bool | None
    echo: Mapping[str, Any]
    unknown: Sequence[str]

    @property
    def tools(self) -> list[Any]:
        """Return all declared tools, those that input items have added included."""
        return [*(self.echo.get("tools") or ()), *self.echo.get(ADDITIONAL_TOOLS, ())]

    @property
    def names(self) -> ToolNames:
        """Return the upstream names of the declared tools."""
        return ToolNames.of(self.echo)

    def after(self, earlier: Mapping[str, Any]) -> "ResponseRequest":
        """Inherit the tools that items of an earlier response have added; `earlier` is its echo."""
        if not (inherited := earlier.get(ADDITIONAL_TOOLS)):
            return self
        own = self.echo.get(ADDITIONAL_TOOLS, [])
        known = {encode_data(tool) for tool in own}
        tools = [*(tool for tool in inherited if encode_data(tool) not in known), *own]
        check_count(tools, "previous_response_id")
        return replace(self, echo={**self.echo, ADDITIONAL_TOOLS: tools})


def read_request(body: Mapping[str, Any]) -> ResponseRequest:
    """Read a request (OpenAI API reference, responses/create).

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    check_fields(body)
    streaming, background = flag(body, "stream", False), flag(body, "background", False)
    if not flag(body, "store", True) and background:
        raise InvalidRequest(
            "store must be true if background is true: the response is read later.",
            param="store",
        )
    previous = text_of(body, "previous_response_id")
    items = _items(body.get("input"), needed=not previous)
    check_tools(body.get("tools"), "tools")
    parallel = body.get("parallel_tool_calls")
    return ResponseRequest(
        streaming=streaming,
        background=background,
        previous=previous or None,
        instructions=text_of(body, "instructions"),
        items=items,
        chat=_chat(body),
        tool_choice=body.get("tool_choice"),
        parallel=None if parallel is None else flag(body, "parallel_tool_calls", True),
        echo={**echo_of(body), **_additional_tools(items), "background": background},
        unknown=unknown_fields(body),
    )


def chat_request(
    request: ResponseRequest, earlier: Sequence[Message], items: Iterable[Item], max_bytes: int
) -> tuple[dict[str, Any], Sequence[Answer]]:
    """Make the chat request: instructions, the `earlier` messages, and these items, with their references resolved.

    Returns it with the answers among its messages that are made of items.

    Raises:
        InvalidRequest: a chat can't express an item, there are 0 messages, or all together are over `max_bytes`.
    """
    messages, answers = conversation_of(items, earlier, request.names)
    if not messages:
        raise InvalidRequest("input must hold at least one message.", param="input")
    if request.instructions:
        messages.insert(0, {"role": "system", "content": request.instructions})
    options = tool_options(request.tools, request.tool_choice, request.parallel)
    chat = {**request.chat, **options, "messages": messages}
    if (earlier or referenced_jobs(request.items)) and len(encode_data(chat)) > max_bytes:
        raise too_long("previous_response_id" if earlier else "input", max_bytes)
    return chat, answers


def too_long(param: str, max_bytes: int) -> InvalidRequest:
    """Return the refusal of a conversation that is too long, by the field that leads to it."""
    return InvalidRequest(f"{param} must refer to a conversation of at most {max_bytes} bytes.", param=param)


def said_before(messages: Sequence[Message], echo: Mapping[str, Any]) -> Sequence[Message]:
    """Return the messages of an earlier chat request without its instructions, which count for one response only."""
    return messages[1:] if echo.get("instructions") else messages


# --- Fields


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    chat = {name: body[name] for name in SAME_NAME if body.get(name) is not None}
    reasoning, text = object_of(body.get("reasoning"), "reasoning"), object_of(body.get("text"), "text")
    for name, value, param in (
        ("max_completion_tokens", body.get("max_output_tokens"), "max_output_tokens"),
        ("reasoning_effort", reasoning.get("effort"), "reasoning.effort"),
        ("verbosity", text.get("verbosity"), "text.verbosity"),
    ):
        check_parameter(name, value, param)
        if value is not None:
            chat[name] = value
    return chat | _text_format(text) | _logprob_options(body)


def _text_format(text: Mapping[str, Any]) -> dict[str, Any]:
    form = object_of(text.get("format"), "text.format")
    match form.get("type", "text"):
        case "text":
            return {}
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json_schema":
            need(form, "text.format", name=str, schema=dict)
            schema = {name: value for name, value in form.items() if name != "type" and value is not None}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise InvalidRequest("text.format.type must be text, json_object or json_schema.", param="text.format.type")


def _logprob_options(body: Mapping[str, Any]) -> dict[str, Any]:
    if LOGPROBS not in (body.get("include") or ()):
        return {}
    top = body.get("top_logprobs")
    return {"logprobs": True} if top is None else {"logprobs": True, "top_logprobs": top}


# --- Items


def _items(given: object, *, needed: bool) -> list[Item]:
    if given is None and not needed:
        return []
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or (needed and not given):
        raise InvalidRequest("input must be a string or a list of at least one item.", param="input")
    return [_item(object_of(item, f"input[{n}]", optional=False)) for n, item in enumerate(given)]


def _item(item: Item) -> Item:
    """Complete an item: a bare id is a reference; its type is optional."""
    if item.get("type") is None and item.keys() <= {"type", "id"} and "id" in item:
        return {**item, "type": _REFERENCE}
    return item


def _additional_tools(items: Sequence[Item]) -> dict[str, Any]:
    """Collect the tools that items add to those of the request."""
    tools: list[Any] = []
    for number, item in enumerate(items):
        if item.get("type") == ADDITIONAL_TOOLS:
            tools += check_tools(item.get("tools"), f"input[{number}].tools")
    check_count(tools, "input")
    return {ADDITIONAL_TOOLS: tools} if tools else {}


# --- References


def referenced_jobs(items: Iterable[Item]) -> list[str]:
    """Find the jobs that these items refer to."""
    found = (job_of(item) for item in items if item.get("type") == _REFERENCE)
    return list(dict.fromkeys(filter(None, found)))


def resolved(items: Sequence[Item], outputs: Mapping[str, Item], max_bytes: int) -> list[Item]:
    """Put the items of `outputs`, by their ids, in place of references.

    Raises:
        InvalidRequest: an item does not exist, or the inserted items are over `max_bytes` in all. The bound is needed
            because an item may be referred to any number of times.
    """
    sizes = {name: len(encode_data(item)) for name, item in outputs.items()}
    found = [_resolved(item, outputs, f"input[{n}].id") for n, item in enumerate(items)]
    named = (item.get("id") for item in items if item.get("type") == _REFERENCE)
    if sum(sizes[str(name)] for name in named) > max_bytes:
        raise too_long("input", max_bytes)
    return found


def _resolved(item: Item, outputs: Mapping[str, Item], where: str) -> Item:
    if item.get("type") != _REFERENCE:
        return item
    if (found := outputs.get(str(item.get("id")))) is None:
        raise InvalidRequest(f"{where} must be the id of an item in a stored response's output.", param=where)
    return found
