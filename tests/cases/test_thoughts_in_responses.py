"""Clients of Responses see a model's thoughts while they stream: as summaries, if they asked for them."""

from typing import Any

import pytest

from tests.cases.dialects import RESPONSE_STREAM, Dialect
from tests.cases.everywhere import in_responses
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import said

pytestmark = pytest.mark.asyncio(loop_scope="module")

THINKING = said({"reasoning_content": "Hm, "}, {"reasoning_content": "well."}, {"content": "Hello"})


def reported(events: list[dict[str, Any]], kind: str) -> str:
    """Return the text of the deltas of a kind."""
    return "".join(event["delta"] for event in events if event["type"] == f"response.{kind}.delta")


@pytest.mark.parametrize("summary", ["auto", "concise", "detailed"])
async def test_a_summary_that_was_asked_for_streams(stage: Stage, model: str, summary: str) -> None:
    stage.upstream.play(model, THINKING)

    got = await RESPONSE_STREAM.ask(stage, model, reasoning={"summary": summary})

    events = got.raw["events"]
    assert reported(events, "reasoning_summary_text") == "Hm, well."
    kinds = [event["type"].removeprefix("response.") for event in events if "reasoning_summary" in event["type"]]
    deltas = ["reasoning_summary_text.delta"] * kinds.count("reasoning_summary_text.delta")
    parts = ["reasoning_summary_part.added", *deltas, "reasoning_summary_text.done", "reasoning_summary_part.done"]
    assert kinds == parts
    assert got.raw["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm, well."}]


@pytest.mark.parametrize("fields", [{}, {"reasoning": {"summary": "auto"}}, {"reasoning": {"effort": "low"}}])
@in_responses
async def test_the_thoughts_are_the_same_however_they_are_shown(
    stage: Stage, dialect: Dialect, model: str, fields: dict[str, Any]
) -> None:
    stage.upstream.play(model, THINKING)

    got = await dialect.ask(stage, model, **fields)

    dialect.check(got, Answer("Hello", "Hm, well."))


async def test_no_summary_streams_unasked(stage: Stage, model: str) -> None:
    stage.upstream.play(model, THINKING)

    got = await RESPONSE_STREAM.ask(stage, model)

    assert reported(got.raw["events"], "reasoning_text") == "Hm, well."
    assert reported(got.raw["events"], "reasoning_summary_text") == ""
