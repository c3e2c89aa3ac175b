"""Test chats that ask with `functions`: their calls are `function_call`, in streams and whole answers."""

from typing import Any

import pytest

from gateway.dialects.chat.stream import ChatOptions
from tests.unit.gateway.dialects.chat.chats import JOB, choices_of, completed, completion, delta, first, more, stream


class TestLegacyFunctions:
    """Test a request with `functions`: it expects a `function_call`."""

    CALL = (
        delta({"tool_calls": [first(0, "f"), more(0, "{")]}, seq=2),
        delta({"tool_calls": [more(0, "}") | {"extra_content": "s"}]}, seq=3),
        completed("tool_calls"),
    )

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            ({"functions": [{"name": "f"}]}, True),
            ({"functions": [{"name": "f"}], "tools": []}, True),
            ({"functions": [{"name": "f"}], "tools": [{"type": "function"}]}, False),
            ({"functions": []}, False),
            ({}, False),
        ],
        ids=str,
    )
    def test_the_request_decides(self, request_: dict[str, Any], expected: bool) -> None:
        assert ChatOptions.of(JOB, "fast", request_).legacy_functions is expected

    def test_a_stream_has_the_call_in_its_deltas(self) -> None:
        choices = choices_of(b"".join(map(stream(legacy=True).translate, self.CALL)))

        assert [choice["delta"] for choice in choices] == [
            {"role": "assistant", "content": None},
            {"function_call": {"name": "f", "arguments": "{"}},
            {"function_call": {"arguments": "}", "extra_content": "s"}},
            {},
        ]
        assert choices[-1]["finish_reason"] == "function_call"

    def test_a_completion_has_the_call_in_its_message(self) -> None:
        (choice,) = completion(*self.CALL, legacy=True).body()["choices"]

        assert choice["message"] == {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "function_call": {"name": "f", "arguments": "{}", "extra_content": "s"},
        }
        assert choice["finish_reason"] == "function_call"

    def test_text_passes_as_in_any_chat(self) -> None:
        events = [delta({"content": "a"}), completed("stop")]

        assert completion(*events, legacy=True).body() == completion(*events).body()
        legacy = stream(legacy=True)
        assert b"".join(map(legacy.translate, events)) == b"".join(map(stream().translate, events))

    def test_further_calls_stay_tool_calls(self) -> None:
        events = [
            delta({"tool_calls": [first(0, "f", "{}")]}, seq=2),
            delta({"tool_calls": [first(1, "g", "[]")]}, seq=3),
            completed("tool_calls"),
        ]

        message = completion(*events, legacy=True).body()["choices"][0]["message"]

        assert message["function_call"] == {"name": "f", "arguments": "{}"}
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["g"]
        choices = choices_of(b"".join(map(stream(legacy=True).translate, events)))
        assert choices[2]["delta"] == {"tool_calls": [first(1, "g", "[]") | {"index": 0}]}

    def test_without_functions_a_call_is_a_tool_call(self) -> None:
        choices = choices_of(b"".join(map(stream().translate, self.CALL)))

        assert "tool_calls" in choices[1]["delta"]
        assert choices[-1]["finish_reason"] == "tool_calls"
