"""A provider that thinks but does not take its thoughts back, as Groq and Mistral: the turn succeeds without them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.cases.dialects import respond
from tests.cases.stage import Stage
from tests.cases.test_state_travels_back import QUESTION, TOOLS, by_previous_response_id, by_whole_input, calling
from tests.support.folded import fold_response
from tests.support.raw_upstream import Body, Raw, as_json, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = {"role", "content", "tool_calls", "tool_call_id", "name"}
GROQ = (
    "'messages.{at}' : for 'role:assistant' the following must be satisfied"
    "[('messages.{at}' : property '{name}' is unsupported)]"
)
MISTRAL = "Extra inputs are not permitted"


def groq(at: int, name: str) -> Raw:
    error = {"message": GROQ.format(at=at, name=name), "type": "invalid_request_error"}
    return as_json({"error": error}, 400)


def mistral(at: int, name: str) -> Raw:
    loc = ["body", "messages", at, "assistant", name]
    detail = [{"type": "extra_forbidden", "loc": loc, "msg": MISTRAL, "input": None}]
    return as_json({"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}, 422)


def choosy(refused: Callable[[int, str], Raw]) -> Callable[[Body], Raw]:
    """Return an upstream that shows its thoughts and a field of its own, and takes neither back."""

    def answer(body: Body) -> Raw:
        for at, message in enumerate(body["messages"]):
            calls = [name for call in message.get("tool_calls") or () for name in call]
            for name in (*message, *calls):
                if name not in (OWN | {"id", "type", "function"}):
                    return refused(at, name)
        if len(body["messages"]) == 1:
            return calling({"reasoning_content": "I must look."}, extra_content={"a": 1})
        return said({"content": "Done."})

    return answer


def sent_state(body: Body) -> list[bool]:
    """Return whether a request had thoughts, and further fields of calls."""
    (message,) = (each for each in body["messages"] if each["role"] == "assistant")
    return ["reasoning_content" in message, any("extra_content" in call for call in message["tool_calls"])]


@pytest.mark.parametrize("refused", [groq, mistral], ids=lambda each: each.__name__)
@pytest.mark.parametrize("second", [by_previous_response_id, by_whole_input], ids=lambda each: each.__name__)
async def test_a_second_turn_succeeds_without_the_state_that_the_provider_refuses(
    stage: Stage, model: str, refused: Any, second: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> None:
    stage.upstream.play(model, choosy(refused))
    first = (await respond(stage, model, input=[QUESTION], tools=TOOLS)).json()

    replies = [await respond(stage, model, tools=TOOLS, **second(first)) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200], [reply.body for reply in replies]
    assert fold_response(replies[0].json()).text == "Done."
    later = [sent_state(body) for body in stage.upstream.asked(model)[1:]]
    # Each field is refused once; the next request does without both.
    assert later == [[True, True], [False, True], [False, False], [False, False]]
