"""What is read out of a chat completion chunk."""

from typing import Any

import pytest

from shared.bounds import REASON_CHARS
from shared.errors import ProviderGarbage
from worker.providers.base import Chunk, read_chunk


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [fields]}


def test_a_delta_is_passed_on_as_it_came() -> None:
    delta = {"content": " Paris", "reasoning_content": "hm", "x_vendor": {"any": [1]}}
    assert read_chunk(choice(index=0, delta=delta, finish_reason=None)) == Chunk(deltas=(delta,))


def test_the_role_is_left_out_and_what_says_nothing_is_no_delta() -> None:
    empty: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None, "tool_calls": [], "audio": {}}
    assert read_chunk(choice(index=0, delta=empty)) == Chunk()


def test_a_delta_tells_its_choice_where_that_is_not_the_first() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 2, "delta": {"content": "b"}}]}
    assert read_chunk(chunk).deltas == ({"content": "a"}, {"content": "b", "index": 2})


def test_a_delta_cannot_claim_to_be_of_another_choice() -> None:
    delta = {"content": "a", "index": 7, "logprobs": "none"}
    assert read_chunk(choice(index=0, delta=delta)).deltas == ({"content": "a"},)


def test_a_choice_without_index_is_the_first() -> None:
    assert read_chunk(choice(delta={"content": "a"})).deltas == ({"content": "a"},)


def test_logprobs_travel_with_their_delta() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5}], "refusal": None}
    read = read_chunk(choice(index=1, delta={"content": "a"}, logprobs=logprobs))
    assert read.deltas == ({"content": "a", "logprobs": logprobs, "index": 1},)


@pytest.mark.parametrize("logprobs", [None, {}, {"content": [], "refusal": None}, "none"])
def test_logprobs_that_say_nothing_are_no_delta(logprobs: object) -> None:
    assert read_chunk(choice(index=0, delta={}, logprobs=logprobs)) == Chunk()


def test_a_finish_reason_belongs_to_its_choice() -> None:
    assert read_chunk(choice(index=3, delta=None, finish_reason="length")).finished == ((3, "length"),)


@pytest.mark.parametrize("reason", [None, ""])
def test_a_finish_reason_without_a_reason_is_none(reason: object) -> None:
    assert read_chunk(choice(index=0, delta={}, finish_reason=reason)).finished == ()


def test_usage_comes_with_or_without_choices() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    assert read_chunk({"choices": [], "usage": usage}).usage == usage
    assert read_chunk({**choice(index=0, delta={"content": "a"}), "usage": usage}) == Chunk(
        deltas=({"content": "a"},), usage=usage
    )


@pytest.mark.parametrize("usage", [None, {}, "many", 12])
def test_usage_that_says_nothing_is_none(usage: object) -> None:
    assert read_chunk({"choices": [], "usage": usage}).usage is None


@pytest.mark.parametrize("chunk", [{}, {"choices": None}, {"choices": []}, {"object": "chat.completion.chunk"}])
def test_a_chunk_without_choices_is_empty(chunk: object) -> None:
    assert read_chunk(chunk) == Chunk()


@pytest.mark.parametrize(
    ("chunk", "sentence"),
    [
        (["nonsense"], "a chunk that is no object"),
        ("nonsense", "a chunk that is no object"),
        (None, "a chunk that is no object"),
        ({"choices": {"index": 0}}, "choices that are no list"),
        ({"choices": ["a"]}, "a choice that is no object"),
        (choice(index="1", delta={}), "index is no number"),
        (choice(index=True, delta={}), "index is no number"),
        (choice(index=-1, delta={}), "index is no number"),
        (choice(index={"a": 1}, delta={}), "index is no number"),
        (choice(index=0, delta="text"), "a delta that is no object"),
        (choice(index=0, delta={}, finish_reason={"why": "stop"}), "a finish reason that is no text"),
        (choice(index=0, delta={}, finish_reason="x" * (REASON_CHARS + 1)), "a finish reason that is no text of 64"),
    ],
)
def test_what_is_no_chunk_is_called_garbage(chunk: object, sentence: str) -> None:
    with pytest.raises(ProviderGarbage, match=sentence):
        read_chunk(chunk)
