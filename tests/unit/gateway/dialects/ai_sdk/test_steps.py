"""Test a page's message of an assistant, as the messages of a chat."""

from typing import Any

import pytest

from gateway.dialects.ai_sdk.steps import assistant_messages

STEP = {"type": "step-start"}
SIGNATURE = {"google": {"thought_signature": "s"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "state": "done"}


def thought(words: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": words, "state": "done"}


def tool(state: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-look", "toolCallId": "c1", "state": state, "input": {"a": 1}, **more}


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return assistant_messages(parts)


class TestCalls:
    @pytest.mark.parametrize(
        ("part", "result"),
        [
            (tool("output-available", output={"b": [2]}), '{"b":[2]}'),
            (tool("output-available", output="sunny"), "sunny"),
            (tool("output-error", errorText="No such place."), "No such place."),
            (tool("output-error"), "The call failed."),
            (tool("output-denied"), "The user did not allow this call."),
        ],
    )
    def test_a_tool_call_and_its_result_are_two_messages(self, part: dict[str, Any], result: str) -> None:
        assert said(text("Let me see."), part) == [
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": result},
        ]

    @pytest.mark.parametrize(
        ("part", "arguments"),
        [
            (tool("output-available", input=None), "{}"),
            (tool("output-available", input="東京"), '"東京"'),
            (tool("output-error", input='{"a":'), '{"a":'),
            (tool("output-error", input=None, rawInput='{"a":'), '{"a":'),
        ],
    )
    def test_arguments_keep_the_text_that_the_model_wrote(self, part: dict[str, Any], arguments: str) -> None:
        called = said(part)[0]

        assert called["content"] is None
        assert called["tool_calls"][0]["function"]["arguments"] == arguments

    def test_a_tool_that_the_page_named_later_is_called_by_its_name(self) -> None:
        part = tool("output-available", output=1) | {"type": "dynamic-tool", "toolName": "find"}

        assert said(part)[0]["tool_calls"][0]["function"]["name"] == "find"

    @pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested"])
    def test_a_call_of_which_nothing_has_come_was_never_made(self, state: str) -> None:
        assert said(text("Hm."), tool(state)) == [{"role": "assistant", "content": "Hm."}]

    def test_each_step_is_a_message_of_its_own(self) -> None:
        reported = said(STEP, tool("output-available", output="x"), STEP, text("So: x."))

        assert [each["role"] for each in reported] == ["assistant", "tool", "assistant"]

    def test_only_a_tool_has_a_result(self) -> None:
        assert said({**text("Hm."), "state": "output-available"}) == [{"role": "assistant", "content": "Hm."}]


class TestState:
    def test_the_thoughts_of_a_step_belong_to_its_message(self) -> None:
        reported = said(
            *(STEP, thought("I must "), thought("look."), tool("output-available", output="x")),
            *(STEP, thought("So."), text("So: x.")),
            *(STEP, thought("Nothing.")),
        )

        assert [(each["role"], each.get("reasoning_content")) for each in reported] == [
            ("assistant", "I must look."),
            ("tool", None),
            ("assistant", "So."),
        ]

    @pytest.mark.parametrize("name", ["callProviderMetadata", "resultProviderMetadata"])
    def test_the_further_fields_of_a_call_return_onto_it(self, name: str) -> None:
        extra = {"extra_content": SIGNATURE, "function": {"strict": True, "name": "other"}, "id": "c9", "custom": {}}
        part = tool("output-available", output="x", **{name: {"tailrace": extra, "openai": {"itemId": "i"}}})

        assert said(part)[0]["tool_calls"] == [
            {
                "id": "c1",
                "type": "function",
                "function": {"strict": True, "name": "look", "arguments": '{"a":1}'},
                "extra_content": SIGNATURE,
            }
        ]

    @pytest.mark.parametrize("metadata", [None, "x", {}, {"tailrace": None}, {"tailrace": {"function": "f"}}])
    def test_other_metadata_adds_nothing(self, metadata: Any) -> None:
        part = tool("output-available", output="x")

        assert said({**part, "callProviderMetadata": metadata}) == said(part)

    @pytest.mark.parametrize(
        ("given", "written"), [({"input": "*** Begin"}, "*** Begin"), ({"input": {"a": 1}}, '{"a":1}'), ({}, "")]
    )
    def test_a_custom_tools_call_has_its_input(self, given: dict[str, Any], written: str) -> None:
        part = tool("output-available", output="x", callProviderMetadata={"tailrace": {"type": "custom"}})
        del part["input"]

        assert said({**part, **given})[0]["tool_calls"] == [
            {"id": "c1", "type": "custom", "custom": {"name": "look", "input": written}}
        ]
