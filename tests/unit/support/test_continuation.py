"""Test an upstream that continues a text: it finds the exact token, or names the fault of the beginning."""

from typing import Any

import pytest

from shared.model.routes import Continuation
from tests.support.continuation import WrongBeginning, begun, rest, tokens_of
from tests.support.upstream import WireScript, ask

HOW = Continuation.CONTINUE_FINAL_MESSAGE
SCRIPT = WireScript(tokens=30, seed=3)
ASKED = ask(tokens=30, seed=3)
TOKENS = tokens_of(ASKED, SCRIPT)


def continued(text: str, **fields: Any) -> dict[str, Any]:
    """Build the request for the rest of this text, in vLLM's form."""
    messages = [*ASKED["messages"], {"role": "assistant", "content": text}]
    return {**ASKED, "messages": messages, "continue_final_message": True, "add_generation_prompt": False, **fields}


def said(request: dict[str, Any], count: int, script: WireScript = SCRIPT) -> list[str]:
    """Return the tokens of the rest; None in it is the place of the fault."""
    chunks = rest(request, script, count)
    choices = ((chunk or {"choices": [{"delta": {"content": "FAULT"}}]})["choices"] for chunk in chunks)
    return [choice[0]["delta"]["content"] for choice in choices if choice and choice[0]["delta"].get("content")]


@pytest.mark.parametrize("count", range(31))
def test_it_continues_at_exactly_the_token_after_the_beginning(count: int) -> None:
    request = continued("".join(TOKENS[:count]))

    assert begun(request, SCRIPT, HOW) == count
    assert said(request, count) == TOKENS[count:]


@pytest.mark.parametrize("wrong", ["another ", "".join(TOKENS) + "more", "".join(TOKENS[:3]) + TOKENS[3][:1], " "])
def test_a_wrong_beginning_or_one_that_ends_inside_a_token_is_refused(wrong: str) -> None:
    with pytest.raises(WrongBeginning):
        begun(continued(wrong), SCRIPT, HOW)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_limit_counts_only_the_remaining_tokens(limit: str) -> None:
    request = continued("".join(TOKENS[:10]), **{limit: 5})
    chunks = [chunk for chunk in rest(request, SCRIPT, 10) if chunk is not None]

    assert said(request, 10) == TOKENS[10:15]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    with pytest.raises(WrongBeginning, match=f"{limit} is 0"):
        begun(continued("".join(TOKENS[:10]), **{limit: 0}), SCRIPT, HOW)


def test_a_fault_comes_so_many_tokens_after_the_beginning() -> None:
    broken = WireScript(tokens=30, seed=3, fault="truncate", after=2)

    assert said(continued("".join(TOKENS[:10])), 10, broken)[:4] == [*TOKENS[10:12], "FAULT", TOKENS[12]]


@pytest.mark.parametrize("how", Continuation)
def test_a_request_in_the_form_of_another_provider_begins_anew(how: Continuation) -> None:
    text = "".join(TOKENS[:4])
    plain = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant", "content": text}]}
    marked = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant", "content": text, "prefix": True}]}
    understood = {
        Continuation.NONE: [0, 0, 0],
        Continuation.PREFILL: [4, 4, 4],
        Continuation.PREFIX: [0, 4, 0],
        Continuation.CONTINUE_FINAL_MESSAGE: [0, 0, 4],
    }

    assert [begun(request, SCRIPT, how) for request in (plain, marked, continued(text))] == understood[how]
    assert begun(ASKED, SCRIPT, how) == 0
