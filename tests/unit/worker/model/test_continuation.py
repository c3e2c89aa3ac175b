"""Test the request that asks for the rest of an answer."""

from typing import Any

import pytest

from shared.model.events import encode_data
from shared.model.routes import Continuation
from worker.model.continuation import can_continue, limit_is_reached, rest_of
from worker.model.digest import PartialAnswer, StreamDigest

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "How many?"}], "temperature": 0.5}
HOW = [how for how in Continuation if how is not Continuation.NONE]


def received(*deltas: dict[str, Any]) -> PartialAnswer:
    """Add these deltas of a log to one partial answer."""
    found = PartialAnswer()
    for delta in deltas:
        found.add(encode_data(delta))
    return found


SAID = received({"content": "There are "}, {"content": "sev"})


@pytest.mark.parametrize("how", HOW)
def test_a_text_can_be_continued_if_the_provider_can(how: Continuation) -> None:
    assert can_continue(ASKED, SAID, how)
    assert can_continue({**ASKED, "n": 1, "response_format": {"type": "text"}, "tools": [{}]}, SAID, how)
    assert can_continue(ASKED, received({"content": "a", "logprobs": {"content": [{"token": "a"}]}}), how)


def test_a_provider_that_cannot_continue_is_not_asked_to() -> None:
    assert not can_continue(ASKED, SAID, Continuation.NONE)


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
        {"reasoning_content": "Hm."},
        {"refusal": "No."},
        {"content": "b", "index": 1},
        {"content": ["b"]},
        {"content": "b", "annotations": [{}]},
    ],
    ids="-".join,
)
def test_an_answer_that_is_not_plain_text_is_never_spliced(delta: dict[str, Any]) -> None:
    mixed = received({"content": "a"}, delta, {"content": "c"})

    assert not can_continue(ASKED, mixed, Continuation.PREFILL)
    assert mixed.deltas == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": "odd"},
    ],
    ids=str,
)
def test_an_answer_that_could_not_be_put_together_is_not_continued_with(fields: dict[str, Any]) -> None:
    assert not can_continue({**ASKED, **fields}, SAID, Continuation.PREFILL)


@pytest.mark.parametrize(
    ("how", "message", "body"),
    [
        (Continuation.PREFILL, {}, {}),
        (Continuation.PREFIX, {"prefix": True}, {}),
        (Continuation.CONTINUE_FINAL_MESSAGE, {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_the_rest_is_asked_for_in_the_providers_own_way(
    how: Continuation, message: dict[str, Any], body: dict[str, Any]
) -> None:
    begun = {"role": "assistant", "content": "There are sev", **message}

    assert rest_of(ASKED, SAID, how) == {**ASKED, "messages": [*ASKED["messages"], begun], **body}
    assert ASKED["messages"] == [{"role": "user", "content": "How many?"}]


def test_an_answer_that_the_caller_has_begun_stays_one_message() -> None:
    asked = {"model": "m", "messages": [*ASKED["messages"], {"role": "assistant", "content": "Well. "}]}

    assert rest_of(asked, SAID, Continuation.PREFILL)["messages"] == [
        *ASKED["messages"],
        {"role": "assistant", "content": "Well. There are sev"},
    ]


@pytest.mark.parametrize(
    "last",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1"}]},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "7", "tool_call_id": "call_1"},
    ],
    ids=["calls tools", "says nothing", "tells a result"],
)
def test_another_last_message_stays_as_it_is(last: dict[str, Any]) -> None:
    messages = rest_of({"model": "m", "messages": [last]}, SAID, Continuation.PREFILL)["messages"]

    assert messages == [last, {"role": "assistant", "content": "There are sev"}]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_only_the_missing_tokens_are_requested(name: str) -> None:
    assert rest_of({**ASKED, name: 10}, SAID, Continuation.PREFILL)[name] == 8
    assert not limit_is_reached({**ASKED, name: 3}, SAID)
    assert limit_is_reached({**ASKED, name: 2}, SAID)


def test_a_malformed_limit_limits_nothing() -> None:
    odd = {**ASKED, "max_tokens": None, "max_completion_tokens": True}

    assert rest_of(odd, SAID, Continuation.PREFILL)["max_tokens"] is None
    assert not limit_is_reached(odd, SAID)


def test_a_continued_digest_equals_one_from_the_start() -> None:
    whole, begun = StreamDigest(), received({"content": "a"})
    rest = begun.continued()
    for digest, deltas in ((whole, ("a", "b")), (rest, ("b",))):
        for text in deltas:
            digest.add(encode_data({"content": text}))

    assert (rest.deltas, rest.sha256) == (whole.deltas, whole.sha256)
    assert (begun.deltas, begun.text) == (1, "a")
