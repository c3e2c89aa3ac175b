"""A page of the AI SDK sends a provider's thoughts and signatures back after a tool call."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.cases.dialects import converse
from tests.cases.stage import Stage
from tests.cases.test_state_travels_back import CHAT_TOOLS, RESULT, every_upstream
from tests.support.folded import fold_ui
from tests.support.raw_upstream import Body, Raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "How warm is it?"}]}


def with_result(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the assistant's message after the page has called its tool."""

    def ran(part: dict[str, Any]) -> dict[str, Any]:
        is_call = part["type"].startswith("tool-")
        return {**part, "state": "output-available", "output": RESULT} if is_call else part

    return {**message, "parts": [ran(part) for part in message["parts"]]}


async def _page_asks(stage: Stage, model: str, messages: list[Any]) -> bytes:
    reply = await converse(stage, model, messages, tools=CHAT_TOOLS)
    assert reply.status == 200, reply.body
    return reply.body


@every_upstream
async def test_the_second_step_of_a_page_has_the_state_of_the_first(
    stage: Stage, model: str, upstream: Callable[[Body], Raw]
) -> None:
    stage.upstream.play(model, upstream)
    first = fold_ui(await _page_asks(stage, model, [USER]))

    second = fold_ui(await _page_asks(stage, model, [USER, with_result(first.raw)]))

    assert (second.text, second.trouble) == ("It has 12 degrees.", None)
    assert len(stage.upstream.asked(model)) == 2
