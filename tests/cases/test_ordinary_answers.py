"""An ordinary answer is the same in every dialect: the check of the checks of this package."""

import pytest

from tests.cases.dialects import Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer, Call
from tests.support.raw_upstream import as_json, chunk, completion, events, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARGUMENTS = '{"city": "Köln"}'


@in_every_dialect
async def test_an_answer_has_reasoning_and_text(stage: Stage, dialect: Dialect, model: str) -> None:
    deltas = [{"role": "assistant", "content": ""}, {"reasoning_content": "Let me "}, {"reasoning_content": "see."}]
    stage.upstream.play(model, said(*deltas, {"content": "Hello"}, {"content": " world"}))

    got = await dialect.ask(stage, model)

    expected = Answer("Hello world", "Let me see.")
    dialect.check(got, expected)
    assert [body["stream"] for body in stage.upstream.asked(model)] == [True]


@in_every_dialect
async def test_tool_calls_in_turns(stage: Stage, dialect: Dialect, model: str) -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "go", "arguments": "{"}}
    rest = [{"index": 0, "function": {"arguments": ARGUMENTS}}, {"index": 1, "function": {"arguments": "}"}}]
    deltas = [{"content": "Well."}, *({"tool_calls": [each]} for each in (first, second, *rest))]
    stage.upstream.play(model, said(*deltas, finish="tool_calls"))

    got = await dialect.ask(stage, model)

    dialect.check(
        got, Answer("Well.", calls=(Call("c1", "look", ARGUMENTS), Call("c2", "go", "{}")), finish="tool_calls")
    )


@in_every_dialect
async def test_a_refusal(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, said({"refusal": "I can't "}, {"refusal": "do that."}))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer(refusal="I can't do that."))


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@in_every_dialect
async def test_an_answer_that_was_cut_off(stage: Stage, dialect: Dialect, model: str, finish: str) -> None:
    stage.upstream.play(model, said({"content": "Hel"}, finish=finish))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hel", finish=finish))


@in_every_dialect
async def test_usage_is_the_providers(stage: Stage, dialect: Dialect, model: str) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    chunks = [chunk({"content": "Hi"}), chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}]
    stage.upstream.play(model, events(*chunks))

    got = await dialect.ask(stage, model)

    assert got.usage in ((5, 2, 7), None)
    assert got.usage or dialect.name in ("ui", "submit")


@in_every_dialect
async def test_a_whole_completion(stage: Stage, dialect: Dialect, model: str) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    stage.upstream.play(model, as_json(completion(message)))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer("Hello", "Hm."))


@in_every_dialect
async def test_a_refused_request(stage: Stage, dialect: Dialect, model: str) -> None:
    error = {"message": "temperature is too hot", "type": "invalid_request_error", "param": "temperature", "code": None}
    stage.upstream.play(model, as_json({"error": error}, 400))

    got = await dialect.ask(stage, model)

    dialect.check_trouble(got, "invalid_request", "temperature is too hot")
    assert len(stage.upstream.asked(model)) == 1


@in_every_dialect
async def test_an_error_after_text_reaches_the_caller(stage: Stage, dialect: Dialect, model: str) -> None:
    error = {"message": "no more room", "type": "invalid_request_error", "code": "context_length_exceeded"}
    stage.upstream.play(model, events(chunk({"content": "Hel"}), {"error": error}))

    got = await dialect.ask(stage, model)

    dialect.check_trouble(got, "context_length_exceeded", "no more room")
    assert len(stage.upstream.asked(model)) == 1
