"""The continuation of a broken answer: the request for its rest.

A job's shown text is read back from its log. The next attempt sends it as the beginning of the answer, so that no token
is paid for twice. Pure. Not here: the decision to continue (retry.py, and the request's policy).
"""

from collections.abc import Mapping
from typing import Any

from shared.model.routes import Continuation
from worker.model.digest import PartialAnswer

_LIMITS = ("max_completion_tokens", "max_tokens")


def can_continue(request: Mapping[str, Any], partial: PartialAnswer, how: Continuation) -> bool:
    """Return whether the rest of this answer can be requested.

    Arguments of tool calls are never spliced, nor is an answer that must fit a schema: a provider that enforces one
    begins at its beginning. Of several choices, each would need a prefix of its own.
    """
    if how is Continuation.NONE or not partial.spliceable or (request.get("n") or 1) != 1:
        return False
    response_format = request.get("response_format")
    if not isinstance(response_format, Mapping):
        return response_format is None
    return response_format.get("type") == "text"


def limit_is_reached(request: Mapping[str, Any], partial: PartialAnswer) -> bool:
    """Return whether the answer has as many tokens as were asked for: then it has no rest."""
    return any(limit <= partial.deltas for limit in _limits(request).values())


def rest_of(request: Mapping[str, Any], partial: PartialAnswer, how: Continuation) -> dict[str, Any]:
    """Write the request for the rest of an answer. It `can_continue`, and is not at its limit.

    A delta counts as a token, as it does for most providers. If one holds several, the answer may become longer than
    was asked for.
    """
    messages = list(request["messages"])
    begun = ""
    if messages and _is_prefill(messages[-1]):
        begun = messages.pop()["content"]
    answer: dict[str, Any] = {"role": "assistant", "content": begun + partial.text}
    if how is Continuation.PREFIX:
        answer["prefix"] = True
    rest = {**request, "messages": [*messages, answer]}
    rest |= {name: limit - partial.deltas for name, limit in _limits(request).items()}
    if how is Continuation.CONTINUE_FINAL_MESSAGE:
        rest |= {"continue_final_message": True, "add_generation_prompt": False}
    return rest


def _limits(request: Mapping[str, Any]) -> dict[str, int]:
    named = {name: request.get(name) for name in _LIMITS}
    return {name: limit for name, limit in named.items() if isinstance(limit, int) and not isinstance(limit, bool)}


def _is_prefill(message: Mapping[str, Any]) -> bool:
    """Return whether this message is the caller's own beginning of the answer."""
    plain = message.get("role") == "assistant" and not message.get("tool_calls")
    return plain and isinstance(message.get("content"), str)
