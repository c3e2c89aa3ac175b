"""Fields that stand beside an upstream's delta reach the caller: nothing that is not understood is dropped."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.cases.dialects import BACKGROUND, CHAT, CHAT_STREAM, NATIVE, RESPONSE, RESPONSE_STREAM, Dialect
from tests.cases.everywhere import in_dialects, in_every_dialect, in_responses
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import Raw, as_json, chunk, completion, events

pytestmark = pytest.mark.asyncio(loop_scope="module")

CITATIONS = ["https://a.example", "https://b.example"]
RESULTS = [{"title": "A", "url": "https://a.example", "date": None}]
FILTERS = {"hate": {"filtered": False, "severity": "safe"}}
TOP: dict[str, Any] = {
    "citations": CITATIONS,
    "search_results": RESULTS,
    "system_fingerprint": "fp_1",
    "service_tier": "default",
    "provider": "Together",
}
BESIDE: dict[str, Any] = {"content_filter_results": FILTERS, "stop_reason": 32000, "native_finish_reason": "eos_token"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.25, "prompt_cache_hit_tokens": 3}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}


def beside(delta: object, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk with fields beside the choices, and beside the delta."""
    whole = chunk(delta, finish, **TOP)
    return {**whole, "choices": [{**whole["choices"][0], **more}]}


STREAMED = events(
    beside({"content": "Hel"}),
    beside({"content": "lo"}, content_filter_results=FILTERS),
    beside({}, "stop", **BESIDE),
    {**chunk({}), "choices": [], "usage": USAGE | DETAILS},
)
WHOLE = completion({"role": "assistant", "content": "Hello"}, usage=USAGE | DETAILS, **TOP)
ANSWERS: dict[str, Raw] = {
    "streamed": STREAMED,
    "whole": as_json({**WHOLE, "choices": [{**WHOLE["choices"][0], **BESIDE}]}),
}
each_answer = pytest.mark.parametrize("name", ANSWERS)


@each_answer
@in_every_dialect
async def test_the_text_is_the_same(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    dialect.check(await dialect.ask(stage, model), Answer("Hello"))


@each_answer
async def test_a_whole_completion_has_them_in_their_places(stage: Stage, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    got = await CHAT.ask(stage, model)

    assert {field: got.raw.get(field) for field in TOP} == TOP
    (choice,) = got.raw["choices"]
    assert {field: choice.get(field) for field in BESIDE} == BESIDE
    assert got.raw["usage"] == USAGE | DETAILS


def places(chunks: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return the values of a field, at the top of the chunks or in their choices."""
    tops = [each[name] for each in chunks if name in each]
    return tops + [choice[name] for each in chunks for choice in each["choices"] if name in choice]


@each_answer
async def test_a_streamed_completion_has_them_in_their_places(stage: Stage, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    got = await CHAT_STREAM.ask(stage, model)

    for field, value in (TOP | BESIDE).items():
        found = places(got.raw, field)
        assert found, field
        assert all(each == value for each in found), (field, found)
    assert len(places(got.raw, "citations")) == 1
    assert got.raw[-1]["usage"] == USAGE | DETAILS
    assert not [each for each in got.raw if "chunk_extra" in str(each) or "choice_extra" in str(each)]


@each_answer
async def test_the_jobs_events_have_them(stage: Stage, model: str, name: str) -> None:
    stage.upstream.play(model, ANSWERS[name])

    got = await NATIVE.ask(stage, model)

    deltas = [delta.json() for delta in got.raw.deltas]
    tops = [delta["chunk_extra"] for delta in deltas if "chunk_extra" in delta]
    choices = [delta["choice_extra"] for delta in deltas if "choice_extra" in delta]
    assert {name: value for each in tops for name, value in each.items()} == TOP
    assert {name: value for each in choices for name, value in each.items()} == BESIDE
    assert len(tops) == 1
    usage = got.raw.end["usage"]
    assert {name: usage.get(name) for name in USAGE} == USAGE
    assert usage["source"] == "provider"


@in_dialects(NATIVE, CHAT, CHAT_STREAM, RESPONSE, RESPONSE_STREAM, BACKGROUND)
async def test_usage_inside_a_choice_is_the_providers(stage: Stage, dialect: Dialect, model: str) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    last = chunk({}, "stop")
    moonshot = {**last, "choices": [{**last["choices"][0], "usage": usage}]}
    stage.upstream.play(model, events(chunk({"content": "Hello"}), moonshot))

    got = await dialect.ask(stage, model)

    assert got.usage == (5, 2, 7)


ANNOTATION: dict[str, Any] = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5},
}


@in_responses
async def test_annotations_are_in_a_response(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(
        model, events(chunk({"content": "Hello"}), chunk({"annotations": [ANNOTATION]}), chunk({}, "stop"))
    )

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hello"))
    (item,) = got.raw["output"]
    (annotation,) = item["content"][0]["annotations"]
    assert annotation == {"type": "url_citation", **ANNOTATION["url_citation"]}


@in_dialects(CHAT, CHAT_STREAM)
async def test_annotations_are_in_a_chat(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(
        model, events(chunk({"content": "Hello"}), chunk({"annotations": [ANNOTATION]}), chunk({}, "stop"))
    )

    got = await dialect.ask(stage, model)

    chunks = got.raw if dialect is CHAT_STREAM else [got.raw]
    said = [choice.get("delta") or choice.get("message") or {} for each in chunks for choice in each["choices"]]
    assert [each["annotations"] for each in said if "annotations" in each] == [[ANNOTATION]]


@in_dialects(CHAT, CHAT_STREAM, NATIVE)
async def test_fields_of_the_delta_that_are_not_known_are_kept(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, events(chunk({"content": "Hello", "mood": {"calm": True}}), chunk({}, "stop")))

    got = await dialect.ask(stage, model)

    if dialect is NATIVE:
        found = [delta.json().get("mood") for delta in got.raw.deltas]
    else:
        chunks = got.raw if dialect is CHAT_STREAM else [got.raw]
        choices = [choice for each in chunks for choice in each["choices"]]
        found = [(choice.get("delta") or choice.get("message") or {}).get("mood") for choice in choices]
    assert {"calm": True} in found
