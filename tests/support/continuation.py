"""The continuation of a begun answer by an upstream: the request for it, its first token and its chunks. Pure.

Not here: HTTP (tests/support/upstream), and a worker's request for a continuation (worker/model/continuation.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from shared.model.routes import Continuation
from worker.upstream.providers.scripted import Script, perform

_LIMITS = ("max_tokens", "max_completion_tokens")


class WrongBeginning(Exception):
    """The given beginning can't be continued; the sentence states the reason."""


def tokens_of(request: Mapping[str, Any], script: Script) -> list[str]:
    """Return the tokens of choice 0, as they are without a fault."""
    chunks = (chunk for chunk in perform(request, script) if chunk is not None)
    choices = (choice for chunk in chunks for choice in chunk["choices"] if not choice["index"])
    return [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]


def begun(request: Mapping[str, Any], script: Script, how: Continuation) -> int:
    """How many tokens of the answer the caller has already. An upstream that is asked otherwise than it can be (`how`)
    begins anew, as real ones do.

    Raises:
        WrongBeginning: its text is not a beginning of the answer, ends inside a token, or leaves no room for another.
    """
    text = _beginning(request, how)
    if text is None:
        return 0
    for name in _LIMITS:
        if name in request and request[name] < 1:
            raise WrongBeginning(f"{name} is {request[name]}: who wants no further token need not ask.")
    unlimited = {name: value for name, value in request.items() if name not in _LIMITS}
    count, length = 0, 0
    for token in tokens_of(unlimited, script):
        if length == len(text):
            break
        if not text.startswith(token, length):
            raise WrongBeginning(f"After {count} tokens it has {text[length : length + 40]!r}, and not {token!r}.")
        count, length = count + 1, length + len(token)
    if length != len(text):
        raise WrongBeginning(f"The answer has {count} tokens, and {text[length : length + 40]!r} comes after them.")
    return count


def rest(request: Mapping[str, Any], script: Script, count: int) -> Iterator[dict[str, Any] | None]:
    """The answer without its first `count` tokens, as `perform` has it. Limits, faults and usage count the rest."""
    if not count:
        yield from perform(request, script)
        return
    limits = {name: request[name] + count for name in _LIMITS if name in request}
    whole = script.model_copy(update={"reasoning": 0, "after": script.after + count})
    for number, chunk in enumerate(perform({**request, **limits}, whole)):
        if chunk is not None and (usage := chunk.get("usage")):
            less = {name: usage[name] - count for name in ("completion_tokens", "total_tokens")}
            yield {**chunk, "usage": {**usage, **less}}
        elif not 1 <= number <= count:  # the role comes before all tokens
            yield chunk


def _beginning(request: Mapping[str, Any], how: Continuation) -> str | None:
    """Return the text that is there already, if the request asks in this way for its continuation."""
    if how is Continuation.NONE or (last := request["messages"][-1]).get("role") != "assistant":
        return None
    asked = {
        Continuation.PREFILL: True,
        Continuation.PREFIX: last.get("prefix") is True,
        Continuation.CONTINUE_FINAL_MESSAGE: request.get("continue_final_message") is True
        and request.get("add_generation_prompt") is False,
    }
    text: str = last["content"]
    return text if asked[how] else None
