"""An upstream that sends absurd values causes a clear error or a cleaned name, and takes nothing down with it."""

import json
from typing import Any

import pytest

from tests.cases.dialects import NATIVE, Dialect
from tests.cases.everywhere import in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer, Call
from tests.support.raw_upstream import MAIN, Raw, as_json, chunk, event, events, said, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEEP = 10_000
NESTED = b'{"choices":[{"index":0,"delta":{"content":' + b"[" * DEEP + b"]" * DEEP + b'},"finish_reason":null}]}'
NESTED_FIELD = b'{"a":' + b"[" * DEEP + b"]" * DEEP + b',"choices":[{"index":0,"delta":{"content":"Hello"}}]}'
END = event(chunk({}, "stop")) + event(b"[DONE]")

ABSURD: dict[str, Raw] = {
    "a choice's index of four thousand million": events(
        chunk({"content": "Hello"}, index=4_000_000_000), chunk({}, "stop")
    ),
    "a negative index": events(chunk({"content": "Hello"}, index=-1), chunk({}, "stop")),
    "an index that is a list": events(chunk({"content": "Hello"}, index=[0]), chunk({}, "stop")),
    "an index of a thousand digits": events(chunk({"content": "Hello"}, index="9" * 1000), chunk({}, "stop")),
    "content nested 10,000 deep": sent(event(NESTED) + END),
    "a field nested 10,000 deep": sent(event(NESTED_FIELD) + END),
    "JSON nested 10,000 deep": sent(NESTED, media_type="application/json"),
    "a refusal nested 10,000 deep": sent(NESTED, media_type="application/json", status=400),
    "a finish reason that is an object": events(chunk({"content": "Hello"}), chunk({}, {"why": "stop"})),  # type: ignore[arg-type]
    "choices that are an object": events({"choices": {"0": {}}}),
    "a delta that is a number": events(chunk(5), chunk({}, "stop")),
    "content that is a number": said({"content": 5}),
    "tool calls that are a text": said({"tool_calls": "look"}),
    "a call that is a list": said({"tool_calls": [["look"]]}),
    "a call's function that is a text": said({"tool_calls": [{"index": 0, "id": "c1", "function": "look"}]}),
    "a call's name that is an object": said({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": {}}}]}),
    "an error that is empty": events({"error": {}}),
    "an error of numbers": events({"error": {"message": 5, "code": [], "type": {}}}),
}


CODES = (
    None,
    *("provider_garbage", "provider_truncated", "provider_error", "server_error", "invalid_request", "invalid_prompt"),
)


@pytest.mark.parametrize("name", ABSURD)
@in_every_dialect
async def test_it_ends_in_an_answer_or_a_clear_error(stage: Stage, dialect: Dialect, once: str, name: str) -> None:
    stage.upstream.play(once, ABSURD[name])

    got = await dialect.ask(stage, once)

    if got.trouble is not None:
        assert got.trouble.code in CODES
        assert got.trouble.message.isprintable()
        assert len(got.trouble.message) < 1000
    await _next_is_well(stage, dialect, once)


async def _next_is_well(stage: Stage, dialect: Dialect, model: str) -> None:
    stage.upstream.play(model, said({"content": "Hello"}))
    dialect.check(await dialect.ask(stage, model), Answer("Hello"))


@in_every_dialect
async def test_a_calls_index_of_four_thousand_million_is_a_name_like_others(
    stage: Stage, dialect: Dialect, model: str
) -> None:
    def fragment(index: int, **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, **more}]}

    first = fragment(4_000_000_000, id="c1", type="function", function={"name": "f", "arguments": "{"})
    stage.upstream.play(model, said(first, fragment(4_000_000_000, function={"arguments": "}"}), finish="tool_calls"))

    got = await dialect.ask(stage, model)

    dialect.check(got, Answer(calls=(Call("c1", "f", "{}"),), finish="tool_calls"))


@in_every_dialect
async def test_an_error_with_control_characters_is_one_printable_line(
    stage: Stage, dialect: Dialect, once: str
) -> None:
    message = "No\x1b[31m red\x00\r\nand \u202e no more \ud83d"
    stage.upstream.play(once, as_json({"error": {"message": message}}, 400))

    got = await dialect.ask(stage, once)

    assert got.trouble is not None
    assert "red" in got.trouble.message
    assert not set(got.trouble.message) & set("\x1b\x00\r\n\ud83d"), got.trouble.message


@pytest.mark.parametrize("name", ["mo\x1b[31mdel", "a\nb", "\ud83d", "", "x" * 5000, "ok\u202emodel"])
async def test_a_models_name_is_listed_clean_or_left_out(stage: Stage, name: str) -> None:
    stage.upstream.models = {"object": "list", "data": [{"id": name, "object": "model"}, {"id": "good"}, {"id": 5}, 7]}

    reply = await stage.client.get("/v1/models")

    assert reply.status == 200
    names = [model["id"] for model in json.loads(reply.body)["data"]]
    assert all(each.isprintable() and 0 < len(each) <= 255 for each in names), names


async def test_a_call_of_a_model_with_control_characters_is_refused_or_answered(stage: Stage) -> None:
    for model in ("mo\x1b[31mdel", "a\nb", "\ud83d"):
        stage.upstream.play(model, said({"content": "Hello"}), provider=MAIN)
        body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
        reply = await stage.client.post("/v1/chat/completions", body)
        assert reply.status in (200, 400), reply.body
        jobs = await stage.client.get("/v1/jobs?limit=5")
        assert jobs.status == 200
    stage.upstream.play("after-them", said({"content": "Hello"}))
    NATIVE.check(await NATIVE.ask(stage, "after-them"), Answer("Hello"))
