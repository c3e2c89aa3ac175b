"""Words that come as lists of parts, as whole messages or under other names are the same words in every dialect."""

from typing import Any

import pytest

from tests.cases.dialects import NATIVE, Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer
from tests.support.raw_upstream import Raw, as_json, chunk, completion, events, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


def text(words: str) -> dict[str, Any]:
    """Return a part of text."""
    return {"type": "text", "text": words}


def whole(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a whole completion without the fields of a chunk."""
    choice = {"message": message, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], **more}


def both(delta: str, so_far: str, finish: str | None = None) -> dict[str, Any]:
    """Return a chunk that has the delta, and all that was said so far."""
    message = {"role": "assistant", "content": so_far}
    return {"choices": [{"index": 0, "delta": {"content": delta}, "message": message, "finish_reason": finish}]}


HELLO = Answer("Hello")
REFERENCE = {"type": "reference", "reference_ids": [1]}
MISTRAL_THOUGHT = {"type": "thinking", "thinking": [text("Hm, "), text("well.")]}

ANSWERS: dict[str, tuple[Raw, Answer]] = {
    "a list of one part": (said({"content": [text("Hello")]}), HELLO),
    "a list of several parts": (said({"content": [text("Hel"), text("lo")]}), HELLO),
    "lists all the way": (said({"content": [text("Hel")]}, {"content": [text("lo")]}), HELLO),
    "an empty list first": (said({"role": "assistant", "content": []}, {"content": "Hello"}), HELLO),
    "text, list, text": (
        said({"content": "He"}, {"content": [text("llo "), REFERENCE]}, {"content": "there"}),
        Answer("Hello there"),
    ),
    "text, reference, text": (
        said({"content": "Hello "}, {"content": [REFERENCE]}, {"content": "you"}),
        Answer("Hello you"),
    ),
    "parts without a type": (said({"content": [{"text": "Hello"}]}), HELLO),
    "output_text parts": (said({"content": [{"type": "output_text", "text": "Hello"}]}), HELLO),
    "a list of texts": (said({"content": ["Hel", "lo"]}), HELLO),
    "thoughts in a list, then texts": (
        said({"content": [MISTRAL_THOUGHT]}, {"content": "Hel"}, {"content": "lo"}),
        Answer("Hello", "Hm, well."),
    ),
    "thoughts and text in one list": (
        said({"content": [{"type": "thinking", "thinking": "Hm, well."}, text("Hello")]}),
        Answer("Hello", "Hm, well."),
    ),
    "a refusal part": (said({"content": [{"type": "refusal", "refusal": "No."}]}), Answer(refusal="No.")),
    "a whole completion as one event": (events(whole({"content": "Hello"})), HELLO),
    "a whole completion as one event without [DONE]": (events(whole({"content": "Hello"}), done=False), HELLO),
    "a whole completion with lists as one event": (
        events(whole({"content": [MISTRAL_THOUGHT, text("Hello")]})),
        Answer("Hello", "Hm, well."),
    ),
    "a message, and its end in another event": (
        events({"choices": [{"index": 0, "message": {"content": "Hello"}}]}, chunk({}, "stop")),
        HELLO,
    ),
    "a message beside an empty delta": (
        events({"choices": [{"index": 0, "delta": {}, "message": {"content": "Hello"}, "finish_reason": "stop"}]}),
        HELLO,
    ),
    "choices with text": (
        events(
            {"object": "text_completion", "choices": [{"index": 0, "text": "Hel", "finish_reason": None}]},
            {"object": "text_completion", "choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
        ),
        HELLO,
    ),
    "choices with text as JSON": (
        as_json({"object": "text_completion", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}),
        HELLO,
    ),
    "Perplexity's deltas beside the message so far": (
        events(both("Hel", "Hel"), both("lo", "Hello"), both("", "Hello", "stop")),
        HELLO,
    ),
    "Perplexity's message at the end": (
        events(chunk({"content": "Hel"}), chunk({"content": "lo"}), whole({"content": "Hello"})),
        HELLO,
    ),
    "a whole completion with a list": (as_json(completion({"content": [text("Hel"), text("lo")]})), HELLO),
    "a whole completion with thoughts": (
        as_json(completion({"content": "Hello", "reasoning": "Hm, well."})),
        Answer("Hello", "Hm, well."),
    ),
}

THOUGHTS: dict[str, tuple[dict[str, Any], ...]] = {
    "reasoning_content": ({"reasoning_content": "Hm, "}, {"reasoning_content": "well."}),
    "reasoning": ({"reasoning": "Hm, "}, {"reasoning": "well."}),
    "reasoning_text": ({"reasoning_text": "Hm, "}, {"reasoning_text": "well."}),
    "thinking": ({"thinking": "Hm, "}, {"thinking": "well."}),
    "two names for the same": (
        {"reasoning": "Hm, ", "reasoning_content": "Hm, "},
        {"reasoning": "well.", "reasoning_content": "well."},
    ),
    "an empty second name": ({"reasoning": "Hm, well.", "reasoning_content": ""},),
    "OpenRouter's, with details": (
        {"reasoning": "Hm, ", "reasoning_details": [{"type": "reasoning.text", "text": "Hm, ", "index": 0}]},
        {"reasoning": "well.", "reasoning_details": [{"type": "reasoning.text", "text": "well.", "index": 0}]},
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
@in_every_dialect
async def test_the_text_is_the_same_in_each_dialect(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    answer, expected = ANSWERS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check(got, expected)
    assert len(stage.upstream.asked(model)) == 1


@pytest.mark.parametrize("name", THOUGHTS)
@in_every_dialect
async def test_thoughts_have_one_name(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    stage.upstream.play(model, said(*THOUGHTS[name], {"content": "Hello"}))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hello", "Hm, well."))


async def test_a_part_of_no_known_kind_is_kept(stage: Stage, model: str) -> None:
    stage.upstream.play(model, said({"content": [text("Hello"), REFERENCE]}))

    got = await NATIVE.ask(stage, model)

    assert got.text == "Hello"
    assert REFERENCE in [part for delta in got.raw.deltas for part in delta.json().get("content_parts", ())]


async def test_each_choice_is_read_by_itself(stage: Stage, model: str) -> None:
    chunks = [
        chunk({"content": [text("He")]}),
        chunk({"content": "Bon"}, index=1),
        chunk({"content": "llo"}),
        {"choices": [{"index": 1, "delta": {"content": [text("jour")]}, "finish_reason": "stop"}]},
        chunk({}, "length"),
    ]
    stage.upstream.play(model, events(*chunks))
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "n": 2}

    reply = (await stage.client.post("/v1/chat/completions", body)).json()

    found = [(choice["message"]["content"], choice["finish_reason"]) for choice in reply["choices"]]
    assert found == [("Hello", "length"), ("Bonjour", "stop")]
