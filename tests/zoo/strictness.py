"""Check a chat request as strictly as the vendor that the upstream imitates.

A refusal has the vendor's status and shape. The sources are the vendors' API references and the error messages in
public bug reports. Pure. Not here: the answer to a request that is fine (answers.py).
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from tests.zoo.answers import signature_of, thoughts_before

_OPENAI_FIELDS = frozenset(CompletionCreateParamsStreaming.__annotations__)
_MISTRAL_FIELDS = frozenset(
    {
        *("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata", "n"),
        *("response_format", "tools", "tool_choice", "parallel_tool_calls", "presence_penalty", "frequency_penalty"),
        *("prediction", "prompt_mode", "reasoning_effort", "safe_prompt", "guardrails", "prompt_cache_key"),
    }
)
_MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call", "annotations"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
_CALL_FIELDS = {"id", "type", "function"}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TOOL_RULES = ("tool_choice", "parallel_tool_calls")


class Refusal(Exception):
    """A request that the vendor refuses, with the field at fault. `state`: the vendor's own state was not sent back."""

    def __init__(self, message: str, param: str | None = None, *, unknown: bool = False, state: bool = False) -> None:
        super().__init__(message)
        self.param = param
        self.unknown = unknown
        self.state = state


def _openai_error(refusal: Refusal) -> tuple[int, Any]:
    error = {"message": str(refusal), "type": "invalid_request_error", "param": refusal.param, "code": None}
    return 400, {"error": error}


def _gemini_error(refusal: Refusal) -> tuple[int, Any]:
    return 400, [{"error": {"code": 400, "message": str(refusal), "status": "INVALID_ARGUMENT"}}]


def _mistral_error(refusal: Refusal) -> tuple[int, Any]:
    kind, words = (
        ("extra_forbidden", "Extra inputs are not permitted") if refusal.unknown else ("value_error", str(refusal))
    )
    path: list[str | int] = [int(s) if s.isdecimal() else s for s in re.findall(r"\w+", refusal.param or "")]
    if refusal.unknown and path[0] == "messages":
        path.insert(2, "assistant")  # the model of a message is chosen by its role
    detail = [{"type": kind, "loc": ["body", *path], "msg": words, "input": None}]
    return 422, {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "code": None}


@dataclass(frozen=True)
class Vendor:
    """How strict one vendor is, and how it says so."""

    fields: frozenset[str] | None = _OPENAI_FIELDS
    """Known top-level fields; None: unknown ones are ignored."""
    unknown: str = "Unrecognized request argument supplied: {}"
    roles: frozenset[str] = frozenset(_MESSAGE_FIELDS)
    message_fields: frozenset[str] = frozenset()
    """Fields of an assistant's message beyond OpenAI's."""
    call_fields: frozenset[str] = frozenset()
    call_id: re.Pattern[str] = re.compile(r".{1,64}")
    streams: bool = True
    demand: Callable[[dict[str, Any], str], None] = lambda message, where: None
    """Check the state that an assistant's message with calls must carry."""
    error: Callable[[Refusal], tuple[int, Any]] = _openai_error


def _demand_reasoning(message: dict[str, Any], where: str) -> None:
    expected = thoughts_before(message["tool_calls"][0]["id"])
    if message.get("reasoning_content") != expected:
        raise Refusal("The `reasoning_content` in the thinking mode must be passed back to the API.", where, state=True)


def _demand_signature(message: dict[str, Any], where: str) -> None:
    call = message["tool_calls"][0]
    extra = (call.get("extra_content") or {}).get("google") or {}
    if extra.get("thought_signature") != signature_of(call["id"]):
        words = (
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work."
        )
        raise Refusal(words, where, state=True)


_NO_DEVELOPER = frozenset(_MESSAGE_FIELDS) - {"developer"}
OPENAI = Vendor()
UNVERIFIED = Vendor(streams=False)
"""OpenAI's large models, asked by an organisation that it has not verified."""
DEEPSEEK = Vendor(
    fields=None,
    roles=_NO_DEVELOPER,
    message_fields=frozenset({"reasoning_content", "prefix"}),
    demand=_demand_reasoning,
)
GEMINI = Vendor(
    unknown='Invalid JSON payload received. Unknown name "{}": Cannot find field.',
    message_fields=frozenset({"extra_content"}),
    call_fields=frozenset({"extra_content"}),
    demand=_demand_signature,
    error=_gemini_error,
)
MISTRAL = Vendor(
    fields=_MISTRAL_FIELDS,
    roles=_NO_DEVELOPER,
    message_fields=frozenset({"prefix"}),
    call_id=re.compile(r"[a-zA-Z0-9]{9}"),
    error=_mistral_error,
)


def check(body: Any, vendor: Vendor) -> None:
    """Check a request.

    Raises:
        Refusal: the first fault that was found.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refusal("Missing required parameter: 'messages'.", "messages")
    for name in body:
        if vendor.fields is not None and name not in vendor.fields:
            raise Refusal(vendor.unknown.format(name), name, unknown=True)
    if body.get("stream") and not vendor.streams:
        raise Refusal("Your organization must be verified to stream this model.", "stream")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refusal("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Refusal(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens"
        )
    _check_tools(body)
    for number, message in enumerate(body["messages"]):
        _check_message(message, f"messages[{number}]", vendor)
    _check_results(body["messages"])


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in _TOOL_RULES:
            if body.get(name) is not None:
                raise Refusal(f"'{name}' is only allowed when 'tools' are specified.", name)
        return
    if not tools:
        raise Refusal("[] is too short - 'tools'", "tools")
    names = set()
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        if set(tool) != {"type", "function"} or tool["type"] != "function":
            raise Refusal(f"Invalid value: {where} must be a function.", where)
        function = tool["function"]
        if extra := set(function) - {"name", "description", "parameters", "strict"}:
            raise Refusal(f"Unknown parameter: '{where}.function.{min(extra)}'.", f"{where}.function")
        if not _TOOL_NAME.fullmatch(function.get("name") or "") or function["name"] in names:
            raise Refusal(f"Invalid '{where}.function.name': {function.get('name')!r}.", f"{where}.function.name")
        names.add(function["name"])
        if function.get("strict"):
            _check_strict(function.get("parameters"), f"{where}.function.parameters")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and (choice.get("function") or {}).get("name") not in names:
        raise Refusal("Tool choice names a function that is not in 'tools'.", "tool_choice")


def _check_strict(schema: Any, where: str) -> None:
    """Check a schema for `strict`: objects are closed, and all properties are required."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise Refusal(f"Invalid schema: {where} must have the type 'object'.", where)
    if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(schema["properties"]):
        raise Refusal(f"Invalid schema: {where} must be closed, with all properties required.", where)


def _check_message(message: Any, where: str, vendor: Vendor) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in vendor.roles:
        raise Refusal(f"{where}.role: unknown variant `{role}`.", f"{where}.role")
    known = _MESSAGE_FIELDS[role] | (vendor.message_fields if role == "assistant" else frozenset())
    if unknown := set(message) - known:
        raise Refusal(f"Unknown parameter: '{where}.{min(unknown)}'.", f"{where}.{min(unknown)}", unknown=True)
    _check_content(message, where)
    calls = message.get("tool_calls")
    if calls is not None:
        if not calls:
            raise Refusal(f"Invalid '{where}.tool_calls': empty array.", f"{where}.tool_calls")
        for number, call in enumerate(calls):
            _check_call(call, f"{where}.tool_calls[{number}]", vendor)
        vendor.demand(message, where)


def _check_content(message: dict[str, Any], where: str) -> None:
    content = message.get("content")
    if content is None:
        if message["role"] != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
            raise Refusal(f"Invalid value for 'content': expected a string, got null ({where}).", f"{where}.content")
    elif isinstance(content, list):
        for part in content:
            kinds = ("text", "image_url", "input_audio", "file") if message["role"] == "user" else ("text", "refusal")
            if not isinstance(part, dict) or part.get("type") not in kinds:
                raise Refusal(f"Invalid part of '{where}.content': {json.dumps(part)[:80]}", f"{where}.content")
    elif not isinstance(content, str):
        raise Refusal(f"Invalid type for '{where}.content'.", f"{where}.content")


def _check_call(call: dict[str, Any], where: str, vendor: Vendor) -> None:
    if unknown := set(call) - _CALL_FIELDS - vendor.call_fields:
        raise Refusal(f"Unknown parameter: '{where}.{min(unknown)}'.", f"{where}.{min(unknown)}", unknown=True)
    function = call.get("function") or {}
    if call.get("type") != "function" or not _TOOL_NAME.fullmatch(function.get("name") or ""):
        raise Refusal(f"Invalid '{where}': it must be a function with a name.", where)
    if not vendor.call_id.fullmatch(call.get("id") or ""):
        raise Refusal(f"Invalid '{where}.id': {call.get('id')!r}.", f"{where}.id")
    try:
        json.loads(function.get("arguments") or "")
    except (TypeError, ValueError):
        raise Refusal(f"Invalid '{where}.function.arguments': not JSON.", f"{where}.function.arguments") from None


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Check that each call's result stands directly behind it, once."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_calls:
                words = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise Refusal(f"Invalid parameter: {words}", f"{where}.role")
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            raise _unanswered(open_calls, where)
        open_calls = set(_call_ids(message))
    if open_calls:
        raise _unanswered(open_calls, "messages")


def _unanswered(ids: set[str], where: str) -> Refusal:
    words = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
    )
    return Refusal(
        f"{words} The following tool_call_ids did not have response messages: {', '.join(sorted(ids))}", where
    )


def _call_ids(message: dict[str, Any]) -> Iterator[str]:
    for call in message.get("tool_calls") or ():
        yield call["id"]
