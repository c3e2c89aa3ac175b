"""Restore the state that goes back to an upstream with a message that has called tools. Pure.

Thinking models and Gemini refuse such a message without its thoughts or its signatures, and many clients drop them. The
job that gave the answer has both. Items name their job by their ids. If a client drops the ids too, the job is found by
the prompt that led to the answer. Not here: the log (logged_answer.py).
"""

import hashlib
from collections.abc import Container, Sequence
from typing import Any

from gateway.dialects.responses.items import Answer, chat_call
from gateway.dialects.responses.logged_answer import LoggedAnswer
from gateway.dialects.responses.tool_results import Message
from shared.model.events import encode_data

_OWN = frozenset({"id", "type", "function"})


def lacking(answers: Sequence[Answer], most: int) -> list[Answer]:
    """Find the answers that have called tools and may have lost their state: the `most` latest."""
    return [answer for answer in answers if _lacks(answer.message)][-most:]


def _lacks(message: Message) -> bool:
    calls = message.get("tool_calls") or ()
    return bool(calls) and ("reasoning_content" not in message or any(call.keys() <= _OWN for call in calls))


def is_from(message: Message, logged: LoggedAnswer) -> bool:
    """Return whether the logged answer has made the message's calls."""
    return any(call["id"] in logged.calls for call in message["tool_calls"])


def give_back(message: Message, logged: LoggedAnswer) -> None:
    """Complete a message with the state of the answer that it is from."""
    calls = message["tool_calls"]
    if logged.thoughts:
        message.setdefault("reasoning_content", logged.thoughts)
    for number, call in enumerate(calls):
        if extras := logged.calls.get(call["id"]):
            function = call["function"]
            calls[number] = chat_call(call["id"], function["name"], function["arguments"], extras)


def prompt_fingerprint(messages: Sequence[Message]) -> str:
    """Identify a prompt. State does not count: a client may send it back or not."""
    return prefix_fingerprints(messages, (len(messages),))[0]


def prefix_fingerprints(messages: Sequence[Message], ends: Container[int]) -> list[str]:
    """Identify the prompts that end before the messages at these positions."""
    digest = hashlib.sha256()
    found = []
    for at in range(len(messages) + 1):
        if at in ends:
            found.append(digest.hexdigest())
        if at < len(messages):
            digest.update(encode_data(_stateless(messages[at])) + b"\n")
    return found


def _stateless(message: Message) -> list[Any]:
    calls = [_stateless_call(call) for call in message.get("tool_calls") or ()]
    return [message.get("role"), message.get("content"), message.get("tool_call_id"), calls]


def _stateless_call(call: Any) -> Any:
    match call:
        case {"id": call_id, "function": {"name": name, "arguments": arguments}}:
            return [call_id, name, arguments]
    return call
