"""Show thoughts and citations of an upstream in the fields that clients of Responses read."""

from typing import Any

import pytest

from tests.cases.dialects import BACKGROUND, RESPONSE, RESPONSE_STREAM, Dialect
from tests.cases.stage import Stage
from tests.support.raw_upstream import said

pytestmark = pytest.mark.asyncio(loop_scope="module")

CITED = {"url": "https://example.test", "title": "An example", "start_index": 0, "end_index": 5}
responses = pytest.mark.parametrize("way", [RESPONSE, RESPONSE_STREAM, BACKGROUND], ids=lambda way: way.name)


def texts_of(item: dict[str, Any], name: str) -> list[str]:
    return [part["text"] for part in item[name]]


@responses
@pytest.mark.parametrize("summary", ["auto", None])
async def test_thoughts_are_a_summary_if_one_is_asked_for(
    stage: Stage, model: str, way: Dialect, summary: str | None
) -> None:
    stage.upstream.play(model, said({"reasoning": "Hm"}, {"reasoning": "m."}, {"content": "Yes."}))

    got = await way.ask(stage, model, reasoning={"summary": summary})

    thoughts = got.raw["output"][0]
    assert texts_of(thoughts, "content") == ["Hmm."]
    assert texts_of(thoughts, "summary") == (["Hmm."] if summary else [])


@responses
async def test_citations_are_annotations_of_the_text(stage: Stage, model: str, way: Dialect) -> None:
    citation = {"type": "url_citation", "url_citation": {**CITED, "content": "…"}}
    stage.upstream.play(model, said({"content": "Hello"}, {"annotations": [citation]}))

    got = await way.ask(stage, model)

    (part,) = got.raw["output"][0]["content"]
    assert part["annotations"] == [{"type": "url_citation", **CITED}]
