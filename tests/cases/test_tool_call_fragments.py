"""Tool calls in unusual fragments are the same calls in every dialect, streamed or not."""

from typing import Any

import pytest

from tests.cases.dialects import Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer, Call
from tests.support.raw_upstream import Raw, as_json, completion, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    """Return a delta of these fragments."""
    return {"tool_calls": list(fragments)}


def fragment(name: str | None, arguments: object, **more: Any) -> dict[str, Any]:
    """Make a fragment of a call; without a name it continues a call."""
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return {"type": "function", "function": function, **more}


def streamed(*deltas: dict[str, Any]) -> Raw:
    """Return a stream of these deltas that ends with calls."""
    return said(*deltas, finish="tool_calls")


TWO = (Call("c1", "get_a", '{"x":1}'), Call("c2", "get_b", '{"y":2}'))
A, B = ("get_a", '{"x":1}'), ("get_b", '{"y":2}')
MADE = (Call("", *A), Call("", *B))
PIECES = ('{"x"', ":1}"), ('{"y"', ":2}")


def in_pieces(**index: Any) -> Raw:
    """Return two calls, each in two fragments, of which the first has the id."""
    (a1, a2), (b1, b2) = PIECES
    return streamed(
        calls(fragment("get_a", a1, id="c1", **index)),
        calls(fragment(None, a2, **index)),
        calls(fragment("get_b", b1, id="c2", **index)),
        calls(fragment(None, b2, **index)),
    )


ANSWERS: dict[str, tuple[Raw, tuple[Call, ...]]] = {
    "a-one-index-for-all-calls": (
        streamed(calls(fragment(*A, index=0, id="c1")), calls(fragment(*B, index=0, id="c2"))),
        TWO,
    ),
    "a-one-index-for-all-calls-in-one-delta": (
        streamed(calls(fragment(*A, index=0, id="c1"), fragment(*B, index=0, id="c2"))),
        TWO,
    ),
    "a-one-index-and-pieces": (in_pieces(index=0), TWO),
    "b-no-index": (in_pieces(), TWO),
    "b-index-null": (in_pieces(index=None), TWO),
    "b-no-index-in-one-delta": (streamed(calls(fragment(*A, id="c1"), fragment(*B, id="c2"))), TWO),
    "b-index-as-text": (
        streamed(
            calls(fragment("get_a", '{"x"', id="c1", index="0")),
            calls(fragment("get_b", '{"y"', id="c2", index="1")),
            calls(fragment(None, ":1}", index="0")),
            calls(fragment(None, ":2}", index="1")),
        ),
        TWO,
    ),
    "b-id-repeated-on-each-fragment": (
        streamed(
            calls(fragment("get_a", '{"x"', id="c1", index=0)),
            calls(fragment("get_b", '{"y"', id="c2", index=1)),
            calls(fragment(None, ":1}", id="c1", index=0)),
            calls(fragment(None, ":2}", id="c2", index=1)),
        ),
        TWO,
    ),
    "b-id-and-name-repeated-on-each-fragment": (
        streamed(
            calls(fragment("get_a", '{"x"', id="c1", index=0)),
            calls(fragment("get_a", ":1}", id="c1", index=0)),
        ),
        TWO[:1],
    ),
    "b-indices-that-begin-at-one": (
        streamed(calls(fragment(*A, index=1, id="c1")), calls(fragment(*B, index=2, id="c2"))),
        TWO,
    ),
    "c-id-first-and-name-later": (
        streamed(
            calls({"index": 0, "id": "c1", "type": "function"}),
            calls({"index": 0, "function": {"name": "get_a"}}),
            calls(fragment(None, '{"x":1}', index=0)),
        ),
        TWO[:1],
    ),
    "c-empty-name-first": (
        streamed(
            calls(fragment("", "", index=0, id="c1")),
            calls(fragment("get_a", "", index=0)),
            calls(fragment(None, '{"x":1}', index=0)),
        ),
        TWO[:1],
    ),
    "c-arguments-before-the-name": (
        streamed(calls(fragment(None, '{"x"', index=0, id="c1")), calls(fragment("get_a", ":1}", index=0))),
        TWO[:1],
    ),
    "d-empty-ids": (streamed(calls(fragment(*A, index=0, id="")), calls(fragment(*B, index=1, id=""))), MADE),
    "d-no-ids": (streamed(calls(fragment(*A, index=0)), calls(fragment(*B, index=1))), MADE),
    "d-no-ids-in-one-delta": (streamed(calls(fragment(*A, index=0), fragment(*B, index=1))), MADE),
    "d-null-id-and-pieces": (
        streamed(calls(fragment("get_a", '{"x"', index=0, id=None)), calls(fragment(None, ":1}", index=0, id=""))),
        MADE[:1],
    ),
    "d-neither-index-nor-id": (streamed(calls(fragment(*A)), calls(fragment(*B))), MADE),
    "e-arguments-as-an-object": (streamed(calls(fragment("get_a", {"x": 1}, index=0, id="c1"))), TWO[:1]),
    "e-arguments-as-an-empty-object": (
        streamed(calls(fragment("get_a", {}, index=0, id="c1"))),
        (Call("c1", "get_a", "{}"),),
    ),
    "f-arguments-null": (
        streamed(calls(fragment("get_a", None, index=0, id="c1")), calls(fragment(None, '{"x":1}', index=0))),
        TWO[:1],
    ),
    "f-no-type": (
        streamed(calls({"index": 0, "id": "c1", "function": {"name": "get_a", "arguments": '{"x":1}'}})),
        TWO[:1],
    ),
    "whole-without-index": (
        as_json(
            completion({"content": None, "tool_calls": [fragment(*A, id="c1"), fragment(*B, id="c2")]}, "tool_calls")
        ),
        TWO,
    ),
    "whole-with-an-object-and-no-id": (
        as_json(completion({"content": "", "tool_calls": [fragment("get_a", {"x": 1}), fragment(*B)]}, "tool_calls")),
        MADE,
    ),
    "legacy-function-call": (
        said(
            {"role": "assistant", "content": None, "function_call": {"name": "get_a", "arguments": ""}},
            {"function_call": {"arguments": '{"x"'}},
            {"function_call": {"arguments": ":1}"}},
            finish="function_call",
        ),
        MADE[:1],
    ),
    "legacy-function-call-whole": (
        as_json(
            completion({"content": None, "function_call": {"name": "get_a", "arguments": '{"x":1}'}}, "function_call")
        ),
        MADE[:1],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
@in_every_dialect
async def test_the_calls_are_the_same_in_every_dialect(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    answer, expected = ANSWERS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer(calls=expected, finish="tool_calls"))
    assert len(stage.upstream.asked(model)) == 1


@in_every_dialect
async def test_a_call_without_arguments_has_empty_arguments(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, streamed(calls({"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}})))

    got = await dialect.ask(stage, model)

    assert [(call.name, call.arguments in ("", "{}")) for call in got.calls] in ([("f", True)], [])
    assert got.calls or dialect.name in ("submit", "text", "text-stream")
