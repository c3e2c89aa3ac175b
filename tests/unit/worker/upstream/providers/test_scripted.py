"""Test the provider that follows the script in its request."""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from shared.model.errors import REFUSALS, ProviderGarbage, ProviderRefused
from worker.upstream.providers.scripted import Script, Scripted, perform, script_of, text_of
from worker.upstream.wire.chunk import Chunk


def ask(model: str = "scripted", **script: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": json.dumps({"script": script})}]}


def say(*prompts: object) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": prompt} for prompt in prompts]}


class Slept:
    """Record each sleep, and end it at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await checkpoint()


async def read(request: dict[str, Any], take: Callable[[Chunk], None], provider: Scripted) -> None:
    async with provider.stream(request) as chunks:
        async for chunk in chunks:
            take(chunk)


async def play(request: dict[str, Any], provider: Scripted | None = None) -> list[Chunk]:
    got: list[Chunk] = []
    await read(request, got.append, provider or Scripted())
    return got


def text(chunks: list[Chunk], choice: int = 0) -> str:
    deltas = [delta for chunk in chunks for delta in chunk.deltas if delta.get("index", 0) == choice]
    return "".join(delta.get("content", "") for delta in deltas)


def finished(chunks: list[Chunk]) -> dict[int, str]:
    return dict(end for chunk in chunks for end in chunk.finished)


async def test_a_plain_prompt_gets_an_answer_that_repeats_it() -> None:
    chunks = await play(say("first", "What  is\nlove?"))
    assert "“What is love?”" in text(chunks)
    assert finished(chunks) == {0: "stop"}


async def test_the_same_prompt_gets_the_same_answer() -> None:
    assert await play(say("Hello")) == await play(say("Hello"))


async def test_a_long_prompt_is_not_repeated_whole() -> None:
    assert len(text(await play(say("word " * 1000)))) < 500


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": "none"},
        {"messages": ["hello", {"role": "user", "content": None}]},
        {"messages": [{"role": "assistant", "content": "hello"}]},
        say('{"not": "a script"}'),
        say('{"half a'),
        say("[" * 100_000),
        say("{" * 100_000),
        say('{"a":' * 100_000),
    ],
)
async def test_any_prompt_gets_an_answer(request_: dict[str, Any]) -> None:
    assert text(await play(request_)).startswith("You said:")


async def test_a_prompt_in_parts_is_read_whole() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "two"}]
    assert "“one two”" in text(await play(say(parts)))


async def test_a_script_sets_the_number_of_tokens_and_its_seed_chooses_them() -> None:
    request = ask(tokens=50, seed=7)
    chunks = await play(request)
    assert sum(len(chunk.deltas) for chunk in chunks) == 50
    assert text(chunks) == text_of(request, script_of(request, Script))
    assert text(chunks) == text(await play(request))
    assert text(chunks) != text(await play(ask(tokens=50, seed=8)))


async def test_a_script_plays_a_text_to_the_letter() -> None:
    said = "  one\ntwo  three\t\n"
    chunks = await play(ask(text=said))
    assert text(chunks) == said
    assert sum(len(chunk.deltas) for chunk in chunks) == 4


async def test_usage_counts_words_of_the_prompt_and_deltas() -> None:
    script = '{"script":{"tokens":4}}'
    chunks = await play(say("one two", script))
    assert chunks[-1].usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_usage_can_be_kept_back() -> None:
    assert all(chunk.usage is None for chunk in await play(ask(usage=False)))


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_is_kept_and_named_as_the_reason(limit: str) -> None:
    request = {**ask(tokens=10), limit: 3}
    chunks = await play(request)
    assert sum(len(chunk.deltas) for chunk in chunks) == 3
    assert finished(chunks) == {0: "length"}
    assert finished(await play({**ask(tokens=10), limit: 10})) == {0: "stop"}


async def test_a_script_names_its_finish_reason() -> None:
    assert finished(await play(ask(finish_reason="content_filter"))) == {0: "content_filter"}


async def test_choices_differ_and_take_turns() -> None:
    request = {**ask(tokens=5), "n": 3}
    chunks = await play(request)
    script = script_of(request, Script)
    texts = [text(chunks, choice) for choice in range(3)]
    assert texts == [text_of(request, script, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert [delta.get("index", 0) for chunk in chunks for delta in chunk.deltas][:6] == [0, 1, 2, 0, 1, 2]
    assert finished(chunks) == {0: "stop", 1: "stop", 2: "stop"}


async def test_reasoning_comes_before_the_text() -> None:
    deltas = [delta for chunk in await play(ask(reasoning=2, tokens=1)) for delta in chunk.deltas]
    assert [next(iter(delta)) for delta in deltas] == ["reasoning_content", "reasoning_content", "content"]


async def test_a_tool_call_comes_in_pieces() -> None:
    arguments = {"city": "Paris", "unit": "celsius"}
    chunks = await play(ask(tool_calls=[{"name": "weather", "arguments": arguments}]))
    parts = [call for chunk in chunks for delta in chunk.deltas for call in delta["tool_calls"]]
    assert parts[0]["function"]["name"] == "weather"
    assert parts[0]["id"]
    assert len(parts) > 2
    assert {part["index"] for part in parts} == {0}
    assert json.loads("".join(part["function"]["arguments"] for part in parts)) == arguments
    assert finished(chunks) == {0: "tool_calls"}


async def test_text_comes_before_tool_calls_when_both_are_asked_for() -> None:
    chunks = await play(ask(text="Wait.", tool_calls=[{"name": "a", "arguments": {}}, {"name": "b", "arguments": []}]))
    deltas = [delta for chunk in chunks for delta in chunk.deltas]
    assert deltas[0] == {"content": "Wait."}
    assert {call["index"] for delta in deltas[1:] for call in delta["tool_calls"]} == {0, 1}


async def test_logprobs_come_when_they_are_asked_for() -> None:
    request = ask(tokens=2)
    assert all("logprobs" not in delta for chunk in await play(request) for delta in chunk.deltas)
    for chunk in await play({**request, "logprobs": True}):
        for delta in chunk.deltas:
            assert delta["logprobs"]["content"][0]["token"] == delta["content"]


async def test_tokens_are_paced_after_the_first() -> None:
    slept = Slept()
    await play(ask(tokens=4, rate=50, usage=False), Scripted(sleep=slept))
    assert slept.seconds == [0, 0, 0.02, 0.02, 0.02, 0.02]  # role, first token, three tokens, finish


async def test_without_a_rate_each_token_gives_the_others_a_turn() -> None:
    slept = Slept()
    await play(ask(tokens=3, usage=False), Scripted(sleep=slept))
    assert slept.seconds == [0] * 5


async def test_plain_answers_have_the_rate_of_the_provider() -> None:
    slept = Slept()
    await play(say("Hello"), Scripted(rate=20, sleep=slept))
    assert slept.seconds[2:] == [0.05] * (len(slept.seconds) - 2)


@pytest.mark.parametrize("after", [0, 3, 5])
async def test_a_stall_lasts_until_it_is_cancelled(after: int) -> None:
    stalled = anyio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == math.inf:
            stalled.set()
        await anyio.sleep(seconds)

    got: list[Chunk] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, ask(tokens=5, fault="stall", after=after), got.append, Scripted(sleep=sleep))
        with anyio.fail_after(5):
            await stalled.wait()
        tasks.cancel_scope.cancel()
    assert sum(len(chunk.deltas) for chunk in got) == after
    assert finished(got) == {}


async def test_a_stall_with_an_end_loses_nothing() -> None:
    slept = Slept()
    request = ask(tokens=5, fault="stall", after=2, stall_s=7)
    chunks = await play(request, Scripted(sleep=slept))
    assert text(chunks) == text_of(request, script_of(request, Script))
    assert slept.seconds.count(7) == 1


@pytest.mark.parametrize("code", sorted(REFUSALS))
async def test_a_refusal_has_the_code_and_the_sentence_of_the_script(code: str) -> None:
    with pytest.raises(ProviderRefused, match=r"^Enough\.$") as refused:
        await play(ask(fault="refuse", code=code, message="Enough."))
    assert refused.value.code == code


@pytest.mark.parametrize(("fault", "error"), [("refuse", ProviderRefused), ("nonsense", ProviderGarbage)])
async def test_a_fault_comes_after_the_scripted_number_of_deltas(fault: str, error: type[Exception]) -> None:
    got: list[Chunk] = []
    with pytest.raises(error):
        await read(ask(tokens=5, fault=fault, after=3), got.append, Scripted())
    assert sum(len(chunk.deltas) for chunk in got) == 3


@pytest.mark.parametrize(("after", "deltas"), [(0, 0), (2, 2), (5, 5), (99, 5)])
async def test_a_truncated_answer_ends_without_a_finish_reason(after: int, deltas: int) -> None:
    chunks = await play(ask(tokens=5, fault="truncate", after=after))
    assert sum(len(chunk.deltas) for chunk in chunks) == deltas
    assert finished(chunks) == {}


async def test_a_model_with_unknown_in_its_name_is_refused() -> None:
    with pytest.raises(ProviderRefused, match="unknown-7b") as refused:
        await play(ask(model="unknown-7b"))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ({"tokens": -1}, "tokens"),
        ({"tokens": "5"}, "tokens"),
        ({"tokens": True}, "tokens"),
        ({"rate": float("inf")}, "rate"),
        ({"stall_s": float("nan")}, "stall_s"),
        ({"fault": "explode"}, "fault: .* must be one of stall"),
        ({"fault": "reset"}, "fault"),
        ({"code": "teapot"}, "code: .* must be one of invalid_request"),
        ({"tool_calls": [{"name": "f"}]}, "tool_calls.0.arguments"),
        ({"tokns": 5}, "tokns"),
    ],
)
async def test_a_wrong_script_is_refused_with_the_field_named(script: dict[str, Any], named: str) -> None:
    with pytest.raises(ProviderRefused, match=named) as refused:
        await play(ask(**script))
    assert (refused.value.code, refused.value.param) == ("invalid_request", "messages")


async def test_a_script_must_be_an_object() -> None:
    with pytest.raises(ProviderRefused, match="script"):
        await play(say('{"script": 5}'))


async def test_it_serves_one_model_and_closes() -> None:
    provider = Scripted("local")
    assert (provider.name, await provider.models()) == ("local", ["scripted"])
    await provider.close()


def test_each_chunk_of_a_performance_has_the_shape_of_openai() -> None:
    request = ask(tokens=2)
    first, *_, last = [chunk for chunk in perform(request, script_of(request, Script)) if chunk is not None]
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"] == []


# Embeddings.


def embedding(*inputs: object, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "input": list(inputs), **fields}


def scripted(**script: Any) -> str:
    return json.dumps({"script": script})


async def test_the_same_input_has_the_same_vector_and_another_one_another() -> None:
    vectors = await Scripted().embed(embedding("a", "b", "a", [1], dimensions=3))

    a, b, again, tokens = struct.iter_unpack("<3f", vectors.data)
    assert a == again
    assert len({a, b, tokens}) == 3
    assert (vectors.dimensions, vectors.prompt_tokens) == (3, 4)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"fault": "refuse", "code": "server_error"}, ProviderRefused),
        ({"fault": "nonsense"}, ProviderGarbage),
        ({"fault": "truncate"}, ProviderGarbage),
        ({"fault": "no such"}, ProviderRefused),
    ],
)
async def test_an_input_that_is_a_script_spoils_all(script: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await Scripted().embed(embedding("fine", scripted(**script)))


async def test_an_input_may_take_its_time() -> None:
    slept = Slept()

    vectors = await Scripted(sleep=slept).embed(embedding(scripted(fault="stall", stall_s=3)))

    assert (sum(slept.seconds), vectors.dimensions) == (3, 8)


async def test_an_unknown_model_embeds_nothing() -> None:
    with pytest.raises(ProviderRefused, match="no model 'unknown-1'"):
        await Scripted().embed({**embedding("a"), "model": "unknown-1"})
