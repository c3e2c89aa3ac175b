"""Half a character at the end of a delta waits for its other half, and a number without a word in JSON is null."""

import json
from typing import Any

import pytest

from tests.cases.dialects import CHAT, CHAT_STREAM, NATIVE, RESPONSE_STREAM, SUBMIT, UI, Dialect
from tests.cases.everywhere import in_dialects, in_every_dialect
from tests.cases.stage import Stage
from tests.support.folded import Answer, Call
from tests.support.raw_upstream import Raw, as_json, chunk, completion, event, events, said, sent

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMILE = "\U0001f600"
HIGH, LOW = "\ud83d", "\ude00"


def call(arguments: str, **more: Any) -> dict[str, Any]:
    """Return a fragment of a call."""
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}}]}


FIRST_CALL = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
ANSWERS: dict[str, tuple[Raw, Answer]] = {
    "in the words": (said({"content": f"a{HIGH}"}, {"content": f"{LOW}b"}), Answer(f"a{SMILE}b")),
    "in the thoughts": (
        said({"reasoning_content": f"a{HIGH}"}, {"reasoning_content": f"{LOW}b"}, {"content": "c"}),
        Answer("c", f"a{SMILE}b"),
    ),
    "alone in their deltas": (said({"content": HIGH}, {"content": LOW}), Answer(SMILE)),
    "with an empty delta between": (said({"content": HIGH}, {"content": ""}, {"content": LOW}), Answer(SMILE)),
    "in the arguments": (
        said(FIRST_CALL, call(f'{{"x":"{HIGH}'), call(f'{LOW}"}}'), finish="tool_calls"),
        Answer(calls=(Call("c1", "f", f'{{"x":"{SMILE}"}}'),), finish="tool_calls"),
    ),
    "in a refusal": (said({"refusal": HIGH}, {"refusal": LOW}), Answer(refusal=SMILE)),
    "never completed": (said({"content": f"a{HIGH}"}), Answer("a\ufffd")),
    "never completed, before a call": (
        said({"content": f"a{HIGH}"}, FIRST_CALL, call("{}"), finish="tool_calls"),
        Answer("a\ufffd", calls=(Call("c1", "f", "{}"),), finish="tool_calls"),
    ),
    "the second half alone": (said({"content": f"{LOW}b"}), Answer("\ufffdb")),
    "two first halves": (said({"content": HIGH}, {"content": f"{HIGH}{LOW}"}), Answer(f"\ufffd{SMILE}")),
    "in a whole completion": (as_json(completion({"content": f"a{HIGH}"})), Answer("a\ufffd")),
}


@pytest.mark.parametrize("name", ANSWERS)
@in_every_dialect
async def test_a_character_in_two_halves_is_whole(stage: Stage, dialect: Dialect, model: str, name: str) -> None:
    answer, expected = ANSWERS[name]
    stage.upstream.play(model, answer)

    got = await dialect.ask(stage, model)

    dialect.check(got, expected)


def improbable(value: str) -> Raw:
    """Return an answer of one token with this log probability."""
    token: dict[str, Any] = {"token": "Hello", "logprob": "VALUE", "bytes": None, "top_logprobs": []}
    first = chunk({"content": "Hello"})
    first["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    data = json.dumps(first).replace('"VALUE"', value).encode()
    return sent(event(data), event(chunk({}, "stop")), event(b"[DONE]"))


each_value = pytest.mark.parametrize("value", ["-Infinity", "Infinity", "NaN"])


@each_value
@in_dialects(NATIVE, UI, SUBMIT)
async def test_a_number_without_a_word_in_json_fails_nothing(
    stage: Stage, dialect: Dialect, model: str, value: str
) -> None:
    stage.upstream.play(model, improbable(value))

    dialect.check(await dialect.ask(stage, model), Answer("Hello"))


# Not by the clients' types, which demand a number that is absent.
@each_value
async def test_a_number_without_a_word_in_json_is_null(stage: Stage, model: str, value: str) -> None:
    stage.upstream.play(model, improbable(value))
    chat_body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}

    chat = (await stage.client.post("/v1/chat/completions", chat_body)).json()
    response = (await stage.client.post("/v1/responses", {"model": model, "input": "Hello?"})).json()

    (choice,) = chat["choices"]
    assert (choice["message"]["content"], choice["logprobs"]["content"][0]["logprob"]) == ("Hello", None)
    (item,) = response["output"]
    assert (response["status"], item["content"][0]["text"]) == ("completed", "Hello")


@each_value
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/responses"])
async def test_a_stream_with_such_a_number_is_json(stage: Stage, model: str, value: str, target: str) -> None:
    stage.upstream.play(model, improbable(value))
    question = {"messages": [{"role": "user", "content": "Hello?"}]} if "chat" in target else {"input": "Hello?"}

    reply = await stage.client.post(target, {"model": model, "stream": True, **question})

    assert reply.status == 200
    assert not [word for word in (b"NaN", b"Infinity") if word in reply.body]


@in_dialects(NATIVE, CHAT, CHAT_STREAM, RESPONSE_STREAM)
async def test_a_large_number_in_a_field_that_is_not_known_fails_nothing(
    stage: Stage, dialect: Dialect, model: str
) -> None:
    data = json.dumps(chunk({"content": "Hello"}, score="VALUE")).replace('"VALUE"', "1e999").encode()
    stage.upstream.play(model, sent(event(data), event(chunk({}, "stop")), event(b"[DONE]")))

    dialect.check(await dialect.ask(stage, model), Answer("Hello"))


async def test_logprobs_are_passed_on(stage: Stage, model: str) -> None:
    token = {"token": "Hello", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
    first = chunk({"content": "Hello"})
    first["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    stage.upstream.play(model, events(first, chunk({}, "stop")))

    got = await CHAT.ask(stage, model, logprobs=True)

    assert got.raw["choices"][0]["logprobs"]["content"] == [token]
