"""Test the dialect of legacy completions: how each event is shown to a client that expects texts."""

from typing import Any

import pytest

from gateway.dialects.completions.stream import TextCompletion, TextOptions, TextStream
from shared.model.events import Event, EventType
from tests.unit.gateway.dialects.chat.chats import (
    ANSWER,
    CREATED_S,
    JOB,
    QUEUED,
    STARTED,
    USAGE,
    choices_of,
    completed,
    delta,
    ended,
    first,
    rollback,
    said,
)

HEAD = {"id": ANSWER.replace("chatcmpl-", "cmpl-"), "object": "text_completion", "created": CREATED_S, "model": "fast"}


def token(text: str, logprob: float | None = -0.5, **top: float) -> dict[str, Any]:
    likeliest = [{"token": name, "logprob": value, "bytes": None} for name, value in top.items()]
    return {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": likeliest}


def choice(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason} | more


def stream(include_usage: bool = False, choices: int = 1) -> TextStream:
    return TextStream(TextOptions(JOB, "fast", include_usage, choices))


def streamed(*events: Event, include_usage: bool = False) -> list[Any]:
    return said(b"".join(map(stream(include_usage).translate, events)))


def completion(*events: Event) -> TextCompletion:
    whole = TextCompletion(TextOptions(JOB, "fast"))
    for event in events:
        whole.accept(event)
    return whole


def test_a_streamed_answer_is_its_texts_a_finish_reason_and_done() -> None:
    events = [QUEUED, STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("stop")]

    chunks = [HEAD | {"choices": [each]} for each in (choice("Hel"), choice("lo"), choice("", "stop"))]
    assert streamed(*events) == [*chunks, "[DONE]"]


def test_a_whole_answer_is_one_object() -> None:
    whole = completion(STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("length"))

    assert whole.body() == HEAD | {"choices": [choice("Hello", "length")], "usage": USAGE}
    assert whole.message() == {"role": "assistant", "content": "Hello"}


def test_an_answer_without_text_is_an_empty_text() -> None:
    assert completion(completed("stop")).body()["choices"] == [choice("", "stop")]
    assert choices_of(stream().translate(completed("stop"))) == [choice("", "stop")]


def test_usage_is_the_last_chunk_and_null_in_the_others_when_it_was_asked_for() -> None:
    one, two, end, last, done = streamed(
        delta({"content": "a"}), delta({"content": "b"}), completed("stop"), include_usage=True
    )

    assert [each["usage"] for each in (one, two, end)] == [None] * 3
    assert last == HEAD | {"choices": [], "usage": USAGE}
    assert done == "[DONE]"


def test_a_refusal_is_the_text() -> None:
    events = [delta({"refusal": "No"}), delta({"refusal": "."}), completed("stop")]

    assert [each["text"] for each in choices_of(b"".join(map(stream().translate, events)))] == ["No", ".", ""]
    assert completion(*events).body()["choices"][0]["text"] == "No."


@pytest.mark.parametrize("silent", [{"reasoning_content": "hm"}, {"tool_calls": [first(0, "f")]}], ids=str)
def test_a_text_has_no_place_for_reasoning_or_calls(silent: dict[str, Any]) -> None:
    answer = stream()

    assert answer.translate(delta(silent)) == b""
    assert not answer.shown
    answer.translate(delta({"content": "a"}))
    assert answer.translate(delta(silent)) == b""
    assert completion(delta(silent), delta({"content": "a"}), completed("stop")).body()["choices"] == [
        choice("a", "stop")
    ]


def test_choices_are_distinguished_by_their_index() -> None:
    events = [delta({"content": "b", "index": 1}), delta({"content": "a"}), completed("stop", "length")]

    streamed_choices = choices_of(b"".join(map(stream(choices=2).translate, events)))

    assert [(each["index"], each["text"], each["finish_reason"]) for each in streamed_choices] == [
        (1, "b", None),
        (0, "a", None),
        (0, "", "stop"),
        (1, "", "length"),
    ]
    assert [(each["index"], each["text"]) for each in completion(*events).body()["choices"]] == [(0, "a"), (1, "b")]


def test_log_probabilities_are_those_of_a_text() -> None:
    events = [
        delta({"content": "Pa", "logprobs": {"content": [token("P", -0.1), token("a", None)]}}, seq=2),
        delta({"content": "ris", "logprobs": {"content": [token("ris", -0.2, ris=-0.2, nama=-2.5)]}}, seq=3),
        delta({"content": "!"}, seq=4),
        completed("stop"),
    ]

    one, two, three, end = choices_of(b"".join(map(stream().translate, events)))

    assert one["logprobs"] == {
        "tokens": ["P", "a"],
        "token_logprobs": [-0.1, None],
        "top_logprobs": None,
        "text_offset": [0, 1],
    }
    assert two["logprobs"] == {
        "tokens": ["ris"],
        "token_logprobs": [-0.2],
        "top_logprobs": [{"ris": -0.2, "nama": -2.5}],
        "text_offset": [2],
    }
    assert (three["logprobs"], end["logprobs"]) == (None, None)
    assert completion(*events).body()["choices"][0]["logprobs"] == {
        "tokens": ["P", "a", "ris"],
        "token_logprobs": [-0.1, None, -0.2],
        "top_logprobs": [{"P": -0.1}, {"a": None}, {"ris": -0.2, "nama": -2.5}],
        "text_offset": [0, 1, 2],
    }


def test_the_chosen_token_is_always_among_the_likeliest() -> None:
    odd = delta({"content": "x", "logprobs": {"content": [token("x", -9.0, y=-0.1)], "refusal": None}})

    (shown,) = choices_of(stream().translate(odd))

    assert shown["logprobs"]["top_logprobs"] == [{"y": -0.1, "x": -9.0}]


@pytest.mark.parametrize("odd", [{"content": "x"}, {"content": ["x", {}, {"token": 7}]}, {"refusal": {}}], ids=str)
def test_log_probabilities_in_another_form_are_left_out(odd: dict[str, Any]) -> None:
    (shown,) = choices_of(stream().translate(delta({"content": "a", "logprobs": odd})))

    assert shown == choice("a")


def test_likeliest_tokens_in_another_form_are_left_out() -> None:
    odd = [{"token": "x", "top_logprobs": ["y", {"token": "z"}]}, {"token": "u", "top_logprobs": 7}]

    (shown,) = choices_of(stream().translate(delta({"content": "xu", "logprobs": {"content": odd}})))

    assert shown["logprobs"]["top_logprobs"] == [{"z": None, "x": None}, {"u": None}]


def test_tokens_without_text_are_shown() -> None:
    (shown,) = choices_of(stream().translate(delta({"logprobs": {"content": [token("\ufffd")]}})))

    assert (shown["text"], shown["logprobs"]["tokens"]) == ("", ["\ufffd"])


def test_fields_beside_the_delta_are_shown_in_their_places() -> None:
    events = [
        delta({"content": "a", "chunk_extra": {"system_fingerprint": "fp"}}),
        delta({"content": "b"}),
        delta({"choice_extra": {"stop_reason": 7}}),
        completed("stop"),
    ]

    *chunks, _ = streamed(*events)
    body = completion(*events).body()

    assert [chunk["system_fingerprint"] for chunk in [*chunks, body]] == ["fp"] * 4
    assert chunks[-1]["choices"] == [choice("", "stop", stop_reason=7)]
    assert body["choices"] == [choice("ab", "stop", stop_reason=7)]


def test_text_that_looks_like_the_protocol_survives() -> None:
    text = 'data: [DONE]\n\n"index":"text":"" ","a":"\\ \U0001f5fc'
    answer = TextStream(TextOptions(JOB, '"text":""'))
    answer.translate(delta({"content": "a", "chunk_extra": {"n": '"text":""'}}))

    (chunk,) = said(answer.translate(delta({"content": text})))

    assert chunk["choices"] == [choice(text)]
    assert (chunk["model"], chunk["n"]) == ('"text":""', '"text":""')


def test_a_failure_is_an_error_in_openais_envelope() -> None:
    answer = stream()
    assert answer.translate(delta({"content": "a"}))

    (reported,) = said(answer.translate(ended(EventType.FAILED)))

    assert reported["error"]["code"] == "provider_overloaded"
    assert answer.ended


def test_starting_over_after_a_text_was_shown_is_an_error() -> None:
    answer = stream()
    answer.translate(delta({"content": "a"}))

    assert [each["error"]["code"] for each in said(answer.translate(rollback("0-2")))] == ["rollback"]


def test_the_options_are_read_from_the_stored_request() -> None:
    request = {"n": 2, "stream_options": {"include_usage": True}, "messages": []}

    assert TextOptions.of(JOB, "fast", request) == TextOptions(JOB, "fast", True, 2)
    assert TextOptions.of(JOB, "fast", {}) == TextOptions(JOB, "fast", False, 1)
