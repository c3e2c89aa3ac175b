"""Test a chat completion that is given whole, and its message so far."""

from typing import Any

import pytest

from shared.model.events import EventType
from tests.unit.gateway.dialects.chat.chats import (
    ANSWER,
    CREATED_S,
    GAP,
    QUEUED,
    STARTED,
    USAGE,
    completed,
    completion,
    delta,
    ended,
    first,
    message,
    more,
    rollback,
    stream,
)


class TestCompletion:
    def test_a_plain_answer_is_one_object(self) -> None:
        events = [QUEUED, STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("stop")]

        whole = completion(*events)

        assert whole.ended
        assert whole.failure is None
        assert whole.body() == {
            "id": ANSWER,
            "object": "chat.completion",
            "created": CREATED_S,
            "model": "fast",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }

    def test_the_body_is_not_available_before_the_end(self) -> None:
        with pytest.raises(ValueError, match="completed"):
            completion(STARTED, delta({"content": "a"})).body()

    @pytest.mark.parametrize("event", [EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED])
    def test_a_bad_end_is_a_failure_and_no_body(self, event: EventType) -> None:
        whole = completion(delta({"content": "a"}), ended(event))

        assert whole.ended
        assert whole.failure is not None
        assert (whole.failure.code, whole.failure.status) == ("provider_overloaded", 503)
        with pytest.raises(ValueError, match="completed"):
            whole.body()

    def test_nothing_is_accepted_after_the_end(self) -> None:
        whole = completion(delta({"content": "a"}), completed("stop"), delta({"content": "b"}))

        assert whole.body()["choices"][0]["message"]["content"] == "a"

    def test_an_answer_without_text_or_calls_is_empty(self) -> None:
        assert message()["content"] == ""
        assert message({"reasoning_content": "hm"})["content"] == ""

    def test_tool_calls_are_put_together_by_their_numbers(self) -> None:
        folded = message(
            {"tool_calls": [first(0, "f", "{")]},
            {"tool_calls": [first(1, "g")]},
            {"tool_calls": [more(0, '"x":'), more(1, "[]")]},
            {"tool_calls": [more(0, "1}"), {"index": 1, "extra_content": {"signature": "s"}}]},
        )

        assert folded["content"] is None
        assert folded["tool_calls"] == [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "g", "arguments": "[]"},
                "extra_content": {"signature": "s"},
            },
        ]

    def test_a_custom_tools_input_is_put_together(self) -> None:
        folded = message(
            {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
            {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]},
        )

        assert folded["tool_calls"] == [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "xy"}}]

    def test_text_beside_tool_calls_is_kept(self) -> None:
        folded = message({"content": "I look."}, {"tool_calls": [first(0, "f")]})

        assert folded["content"] == "I look."

    def test_a_refusal_leaves_the_content_null(self) -> None:
        folded = message({"refusal": "I can"}, {"refusal": "not."})

        assert folded["refusal"] == "I cannot."
        assert folded["content"] is None

    def test_reasoning_is_put_together_beside_the_content(self) -> None:
        folded = message({"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "a"})

        assert (folded["reasoning_content"], folded["content"]) == ("hm", "a")

    def test_fields_this_version_does_not_know_are_put_together_by_their_shape(self) -> None:
        folded = message(
            {"audio": {"id": "x", "data": "aa", "expires_at": None}, "annotations": [{"a": 1}], "score": 1},
            {"audio": {"id": "x", "data": "bb", "expires_at": 7}, "annotations": [{"b": 2}], "score": 2},
            {"reasoning_details": [{"index": 0, "type": "text", "text": "h"}]},
            {"reasoning_details": [{"index": 0, "type": "text", "text": "m"}]},
            {"images": [{"type": "image_url"}], "content_parts": [{"type": "reference", "reference_ids": [1]}]},
        )

        assert folded["audio"] == {"id": "x", "data": "aabb", "expires_at": 7}
        assert folded["annotations"] == [{"a": 1}, {"b": 2}]
        assert folded["score"] == 2
        assert folded["reasoning_details"] == [{"index": 0, "type": "text", "text": "hm"}]
        assert folded["images"] == [{"type": "image_url"}]
        assert folded["content_parts"] == [{"type": "reference", "reference_ids": [1]}]

    def test_logprobs_are_put_together_beside_the_message(self) -> None:
        whole = completion(
            delta({"content": "a", "logprobs": {"content": [{"token": "a"}], "refusal": None}}, seq=1),
            delta({"content": "b", "logprobs": {"content": [{"token": "b"}], "refusal": None}}, seq=2),
            completed("stop"),
        )

        choice = whole.body()["choices"][0]

        assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}
        assert "logprobs" not in choice["message"]

    def test_each_choice_is_put_together_apart(self) -> None:
        whole = completion(
            delta({"content": "b1", "index": 1}),
            delta({"content": "a"}),
            delta({"content": "b2", "index": 1}),
            completed("stop", "length"),
        )

        choices = whole.body()["choices"]

        assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [
            (0, "a"),
            (1, "b1b2"),
        ]
        assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]

    @pytest.mark.parametrize(("to", "rest"), [("0-1", ""), ("1-1", "a"), ("1-2", "ab"), ("1-9", "abc")], ids=str)
    def test_a_rollback_removes_exactly_the_deltas_after_its_target(self, to: str, rest: str) -> None:
        deltas = [delta({"content": text}, seq=seq) for seq, text in enumerate("abc", 1)]

        whole = completion(*deltas, rollback(to), delta({"content": "!"}, epoch=2, seq=3), completed("stop"))

        assert whole.body()["choices"][0]["message"]["content"] == rest + "!"

    def test_a_gap_removes_all_deltas_since_the_log_follows_from_its_start(self) -> None:
        whole = completion(delta({"content": "a"}), GAP, QUEUED, STARTED, delta({"content": "a"}), completed("stop"))

        assert whole.body()["choices"][0]["message"]["content"] == "a"

    def test_the_body_can_be_asked_for_again(self) -> None:
        whole = completion(delta({"tool_calls": [first(0, "f")]}), completed("tool_calls"))

        assert whole.body() == whole.body()


class TestMessage:
    def test_the_message_has_the_text_of_the_first_choice_and_the_reasoning_before_it(self) -> None:
        deltas: list[dict[str, Any]] = [
            {"content": "a"},
            {"content": "x", "index": 1},
            {"reasoning_content": "h"},
            {"content": "b"},
        ]

        message = completion(*(delta(data, seq=seq) for seq, data in enumerate(deltas, 2))).message()

        assert message == {"role": "assistant", "content": "ab", "reasoning_content": "h"}

    def test_a_refusal_is_the_text_of_the_message(self) -> None:
        assert completion(delta({"refusal": "No."})).message() == {"role": "assistant", "content": "No."}

    @pytest.mark.parametrize(
        "nothing", [{"reasoning_content": "h"}, {"tool_calls": [first(0, "f")]}, {"content": ["a"]}]
    )
    def test_an_answer_without_text_has_no_message(self, nothing: dict[str, Any]) -> None:
        assert completion(delta(nothing)).message() is None

    def test_rolled_back_text_is_not_in_the_message(self) -> None:
        assert completion(delta({"content": "a"}), rollback("0-1")).message() is None


# Calls in a log of an earlier version, which kept an upstream's fragments as they came.
LOOSE_CALLS: list[Any] = [
    [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    [{"index": "0", "id": "a", "function": {"name": "f", "arguments": "{}"}}],
    [{"index": None, "function": {"arguments": "{}"}}],
    [{"index": 0, "id": "a", "function": None}],
    ["x", None],
    {"a": 1},
]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("calls", LOOSE_CALLS)
def test_calls_in_an_earlier_versions_log_break_no_answer(calls: Any, legacy: bool) -> None:
    events = [delta({"content": "Hello", "tool_calls": calls}), completed("tool_calls")]

    frames = b"".join(map(stream(legacy=legacy).translate, events))
    (whole,) = completion(*events, legacy=legacy).body()["choices"]

    assert frames.endswith(b"data: [DONE]\n\n")
    assert whole["message"]["content"] == "Hello"
