"""List the fields of a Responses request, and how each is used. Pure.

A request that goes upstream holds the fields that chat completions know, and no others. Not here: the values of the
translated fields (request.py).
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from gateway.dialects.responses.checks import list_of, object_of, one_of, text_of, whole_number
from shared.model.errors import InvalidRequest
from shared.model.jobs import KEPT


class Use(StrEnum):
    """The use that Tailrace makes of a field."""

    HONOURED = "honoured"
    """It changes what Tailrace does, and does not go upstream."""
    TRANSLATED = "translated"
    """It goes upstream as chat completions spell it."""
    IGNORED = "ignored"
    """It is accepted and has no effect."""
    REFUSED = "refused"
    """A request that has it is not accepted."""


FIELDS: Final[Mapping[str, Use]] = {
    # Parameters of OpenAI's SDK; a test compares them with the installed version.
    "access_programs": Use.IGNORED,
    "background": Use.HONOURED,
    "background_options": Use.HONOURED,
    "context_management": Use.REFUSED,
    "conversation": Use.REFUSED,
    "image": Use.IGNORED,
    "include": Use.HONOURED,
    "input": Use.TRANSLATED,
    "instructions": Use.TRANSLATED,
    "max_output_tokens": Use.TRANSLATED,
    "max_tool_calls": Use.IGNORED,
    "metadata": Use.HONOURED,
    "model": Use.TRANSLATED,
    "moderation": Use.REFUSED,
    "parallel_tool_calls": Use.TRANSLATED,
    "previous_response_id": Use.HONOURED,
    "prompt": Use.REFUSED,
    "prompt_cache_key": Use.TRANSLATED,
    "prompt_cache_options": Use.IGNORED,
    "prompt_cache_retention": Use.IGNORED,
    "reasoning": Use.TRANSLATED,
    "safety_identifier": Use.TRANSLATED,
    "service_tier": Use.TRANSLATED,
    "store": Use.HONOURED,
    "stream": Use.HONOURED,
    "stream_options": Use.HONOURED,
    "temperature": Use.TRANSLATED,
    "text": Use.TRANSLATED,
    "tool_choice": Use.TRANSLATED,
    "tools": Use.TRANSLATED,
    "top_logprobs": Use.TRANSLATED,
    "top_p": Use.TRANSLATED,
    "truncation": Use.HONOURED,
    "user": Use.TRANSLATED,
    # Codex CLI's and the WebSocket transport's; they describe the caller's machine and its connection.
    "client_metadata": Use.IGNORED,
    "generate": Use.HONOURED,
    "stream_id": Use.IGNORED,
    "type": Use.IGNORED,
    # Parameters of chat completions that have no counterpart here: samplers, OpenAI's and those of open servers.
    "frequency_penalty": Use.TRANSLATED,
    "logit_bias": Use.TRANSLATED,
    "min_p": Use.TRANSLATED,
    "presence_penalty": Use.TRANSLATED,
    "repetition_penalty": Use.TRANSLATED,
    "seed": Use.TRANSLATED,
    "stop": Use.TRANSLATED,
    "top_k": Use.TRANSLATED,
    # Likely mistakes.
    "messages": Use.REFUSED,
    "n": Use.HONOURED,
    KEPT: Use.REFUSED,
}
SAME_NAME: Final = (
    *("model", "prompt_cache_key", "safety_identifier", "service_tier", "temperature", "top_p", "user"),
    *("frequency_penalty", "logit_bias", "min_p", "presence_penalty", "repetition_penalty", "seed", "stop", "top_k"),
)
"""Translated fields that chat completions spell alike."""

_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "previous_response_id"),
    *("prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store"),
    *("temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
)
_REFUSED = {
    "context_management": "context_management is not supported: conversations are not compacted; leave it out.",
    "conversation": "conversation is not supported; use previous_response_id.",
    "messages": "messages is a field of chat completions; use input.",
    "moderation": "moderation is not supported: nothing is checked against a policy; leave it out.",
    "prompt": "prompt templates are not supported; send their text as instructions and input.",
    KEPT: f"{KEPT} is Tailrace's own name; leave it out.",
}
LOGPROBS: Final = "message.output_text.logprobs"
_INCLUDABLE = (
    *("file_search_call.results", "web_search_call.results", "web_search_call.action.sources"),
    *("message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs"),
    *("reasoning.encrypted_content", LOGPROBS),
)
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
# The words that a response has for the tiers that are not shown as they were asked.
_SHOWN_TIERS = {"auto": "default", "fast": "priority"}
_MOST_LOGPROBS = 20
_MAX_NAME, _MAX_NAMES = 64, 20
# Fields of the chat request under the names that the caller of a response knows.
_OWN_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "response_format": "text.format",
    "logprobs": "include",
    "messages": "input",
}
_ROOT = re.compile(r"\w+")


def check_fields(body: Mapping[str, Any]) -> None:
    """Check the fields that are read as they are.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    for name, sentence in _REFUSED.items():
        if body.get(name) is not None:
            raise InvalidRequest(sentence, param=name)
    if body.get("n") not in (None, 1):
        raise InvalidRequest("n must be 1: a response is one answer.", param="n")
    if body.get("generate") not in (None, True):
        raise InvalidRequest("generate must be true: a response without an answer is not supported.", param="generate")
    if object_of(body.get("prompt_cache_options"), "prompt_cache_options").get("prewarm"):
        where = "prompt_cache_options.prewarm"
        raise InvalidRequest(f"{where} must be false: a response without an answer is not supported.", param=where)
    if body.get("truncation") not in (None, "disabled"):
        raise InvalidRequest("truncation must be disabled: prompts are not shortened.", param="truncation")
    window = object_of(body.get("background_options"), "background_options").get("completion_window")
    if window not in (None, "soonest"):
        where = "background_options.completion_window"
        raise InvalidRequest(f"{where} must be soonest: longer windows are not supported.", param=where)
    one_of(body.get("service_tier"), "service_tier", _TIERS)
    for number, each in enumerate(list_of(body.get("include"), "include")):
        one_of(each, f"include[{number}]", _INCLUDABLE)
    whole_number(body, "max_tool_calls", 1)
    whole_number(body, "top_logprobs", 0, _MOST_LOGPROBS)
    object_of(body.get("stream_options"), "stream_options")
    for name in ("prompt_cache_key", "safety_identifier", "user"):
        text_of(body, name)


def unknown_fields(body: Mapping[str, Any]) -> list[str]:
    """Find the names that mean nothing here, as many of them and so much of each as a log can hold."""
    return [name[:_MAX_NAME] for name in body if name not in FIELDS][:_MAX_NAMES]


def echo_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the fields that the response repeats."""
    echo = {name: body[name] for name in _ECHOED if body.get(name) is not None}
    if echo.get("service_tier") in _SHOWN_TIERS:
        echo["service_tier"] = _SHOWN_TIERS[echo["service_tier"]]
    return echo


def in_own_words(error: InvalidRequest) -> InvalidRequest:
    """Name the field of a refused chat request as the caller of a response knows it."""
    if error.param is None or (param := own_param(error.param)) == error.param:
        return error
    return InvalidRequest(str(error).replace(error.param, param), param=param)


def own_param(param: str) -> str:
    """Translate the name of a field of the chat request. The positions of messages are not those of items."""
    root = _ROOT.match(param)
    own = _OWN_NAMES.get(root[0]) if root is not None else None
    if root is None or own is None:
        return param
    return own if own == "input" else own + param[root.end() :]
