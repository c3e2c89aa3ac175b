"""Translate a legacy completions request into the chat request that Tailrace sends. Pure.

All functions raise InvalidRequest. Not here: the fields that a chat has under the same name, which admission checks.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.model.errors import InvalidRequest

MOST_LOGPROBS: Final = 20
"""The largest `top_logprobs` of a chat completion (OpenAI API reference, chat/create)."""

_TRANSLATED = frozenset({"prompt", "suffix", "echo", "best_of", "logprobs"})
_OF_A_CHAT = ("messages", "tools", "tool_choice", "functions", "function_call")


def chat_request_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat request for a completions request: the prompt becomes a user's message.

    `max_tokens` gets no default, though OpenAI's is 16: a reasoning model would spend them before its first word.

    Raises:
        InvalidRequest: a chat can't provide the function of a field; the sentence names the field.
    """
    for name in _OF_A_CHAT:
        if body.get(name) is not None:
            raise InvalidRequest(f"{name} is a field of /v1/chat/completions; here, send prompt.", param=name)
    _refuse_unsupported(body)
    request = {name: value for name, value in body.items() if name not in _TRANSLATED and name not in _OF_A_CHAT}
    return request | {"messages": [{"role": "user", "content": _prompt(body)}]} | _logprobs(body)


def _prompt(body: Mapping[str, Any]) -> str:
    match body.get("prompt"):
        case str(text) | [str(text)]:
            return text
        case [str(), *_]:
            raise InvalidRequest("prompt must be a single string; send one request for each prompt.", param="prompt")
        case [int() | list(), *_]:
            raise InvalidRequest("prompt must be a string: tokens are not supported.", param="prompt")
        case _:
            raise InvalidRequest("prompt must be a string, or a list of one string.", param="prompt")


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    if body.get("suffix"):
        raise InvalidRequest("suffix is not supported: the prompt is answered as a chat; leave it out.", param="suffix")
    if body.get("echo"):
        raise InvalidRequest("echo must be false: the prompt is answered as a chat, not continued.", param="echo")
    best_of = body.get("best_of")
    if best_of is not None and best_of != (body.get("n") or 1):
        raise InvalidRequest("best_of must be left out, or the same as n.", param="best_of")


def _logprobs(body: Mapping[str, Any]) -> dict[str, Any]:
    count = body.get("logprobs")
    if count is None or count is False:
        return {}
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_LOGPROBS:
        raise InvalidRequest(f"logprobs must be a whole number from 0 to {MOST_LOGPROBS}.", param="logprobs")
    return {"logprobs": True, "top_logprobs": count} if count else {"logprobs": True}
