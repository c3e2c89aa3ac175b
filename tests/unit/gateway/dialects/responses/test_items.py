"""Test items as the messages of a chat."""

import copy
import json
from typing import Any

import pytest

from gateway.dialects.responses.items import conversation_of, from_caller, messages_of
from gateway.dialects.responses.tools import ToolNames
from shared.model.jobs import new_job_id
from tests.unit.gateway.dialects.responses.test_request import BARE, CALL, CHAT_CALL, JOB, refusal, user
from tests.unit.gateway.dialects.responses.test_tools import custom, function, namespace

OTHER = new_job_id(1_700_000_000_001, 43).removeprefix("job_")


def call(call_id: str, **fields: Any) -> dict[str, Any]:
    return {**CALL, "call_id": call_id, **fields}


def output(call_id: str, said: Any = "42", kind: str = "function_call_output") -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "output": said}


def result(call_id: str, content: Any = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def said(text: str, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": parts, **fields}


def thought(text: str, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": parts, **fields}


def assistant(content: str | None = None, *call_ids: str, **fields: Any) -> dict[str, Any]:
    calls = {"tool_calls": [CHAT_CALL | {"id": each} for each in call_ids]} if call_ids else {}
    return {"role": "assistant", "content": content, **calls, **fields}


class TestMessages:
    def test_the_type_of_a_message_item_is_optional(self) -> None:
        items: list[dict[str, Any]] = [
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": "Hello?", "id": "msg_1", "status": "completed"},
            {"type": None, "role": "user", "content": "Hello?", "phase": "commentary"},
        ]

        assert messages_of(items) == [{"role": "developer", "content": "Be brief."}, user("Hello?"), user("Hello?")]

    def test_two_texts_of_an_assistant_are_two_messages(self) -> None:
        assert messages_of([said("One."), said("Two.")]) == [assistant("One."), assistant("Two.")]


class TestCalls:
    def test_calls_belong_to_the_message_before_them(self) -> None:
        assert messages_of([said("I look."), CALL, call("b")]) == [assistant("I look.", "a", "b")]
        assert messages_of([user("Hello?"), CALL]) == [user("Hello?"), assistant(None, "a")]

    def test_a_call_never_changes_the_earlier_messages(self) -> None:
        for earlier in ([assistant("I look.")], [assistant("I look.", "a")], [assistant("Hm.", tool_calls=None)]):
            before = copy.deepcopy(earlier)

            messages = messages_of([call("b"), call("c"), thought("More.")], earlier)

            assert [each["id"] for each in messages[0]["tool_calls"]][-2:] == ["b", "c"]
            assert messages[0]["reasoning_content"] == "More."
            assert earlier == before

    def test_thoughts_alone_add_no_calls_to_an_earlier_message(self) -> None:
        assert messages_of([thought("More.")], [assistant("Hm.", tool_calls=None)]) == [
            assistant("Hm.", reasoning_content="More.")
        ]

    def test_a_calls_output_is_a_tools_message(self) -> None:
        text = {"type": "input_text", "text": "42"}
        several = [{"type": "text", "text": "42"}, {"type": "text", "text": "42"}]

        for given, content in (("42", "42"), ([text], "42"), ([text, text], several), ("", ""), ([], "")):
            assert messages_of([CALL, output("a", given)])[1:] == [result("a", content)]

    def test_images_of_an_output_follow_as_a_users_since_no_chat_takes_them_from_a_tool(self) -> None:
        text, image = {"type": "input_text", "text": "A cat."}, {"type": "input_image", "image_url": "data:,"}

        messages = messages_of([CALL, call("b"), output("a", [text, image]), output("b", [image, image])])

        shown = {"type": "image_url", "image_url": {"url": "data:,"}}
        assert messages[1:] == [
            result("a", "A cat."),
            result("b", "The result follows in a user message."),
            user([{"type": "text", "text": "Result of the tool call a:"}, shown]),
            user([{"type": "text", "text": "Result of the tool call b:"}, shown, shown]),
        ]

    def test_a_custom_tool_is_called_with_one_text(self) -> None:
        item = {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": '*** "é"\n', "id": "ctc_1"}

        messages = messages_of([item, output("a", "Done.", "custom_tool_call_output")], names=ToolNames(()))

        (chat_call,) = messages[0]["tool_calls"]
        assert chat_call["function"]["name"] == "patch"
        assert json.loads(chat_call["function"]["arguments"]) == {"input": '*** "é"\n'}
        assert messages[1] == result("a", "Done.")

    def test_a_call_has_the_name_under_which_its_tool_is_offered(self) -> None:
        names = ToolNames.of({"tools": [function("run"), namespace("a", function("run"), custom("ask"))]})
        items = [
            call("1", name="run"),
            call("2", name="run", namespace="a"),
            {"type": "custom_tool_call", "call_id": "3", "name": "ask", "namespace": "a", "input": ""},
            call("4", name="run", namespace=None),
        ]

        (message,) = messages_of(items, names=names)

        assert [each["function"]["name"] for each in message["tool_calls"]] == ["run", "a__run", "ask", "run"]

    def test_further_fields_of_an_item_go_back_with_the_call(self) -> None:
        extra = {"extra_content": {"google": {"thought_signature": "s"}}}
        item = {**CALL, **extra, "id": "fc_1", "status": "completed", "namespace": "a", "caller": None, "gone": None}

        assert messages_of([item])[0]["tool_calls"] == [CHAT_CALL | extra]

    def test_further_fields_of_the_inner_object_go_back_inside_it(self) -> None:
        item = {**CALL, "function": {"thought": "t", "name": "other"}, "custom": {"more": 1}}

        (message,) = messages_of([item])

        function = {"name": "f", "arguments": "{}", "thought": "t", "more": 1}
        assert message["tool_calls"] == [CHAT_CALL | {"function": function}]

    def test_thirteen_thousand_calls_take_linear_time(self) -> None:
        items = [call(str(number)) for number in range(13_000)] + [output(str(number)) for number in range(13_000)]

        messages = messages_of(items)

        assert len(messages) == 13_001
        assert len(messages[0]["tool_calls"]) == 13_000

    def test_many_pieces_of_one_message_take_linear_time(self) -> None:
        step = [thought("t" * 100), CALL, said("s" * 100)]

        (message,) = messages_of(step * 10_000)

        assert (len(message["content"]), len(message["reasoning_content"])) == (1_000_000, 1_000_000)


class TestResults:
    """Test case 08: no item stands between a call and its result."""

    def test_a_text_behind_a_call_belongs_to_the_message_of_the_call(self) -> None:
        items = [said("Let me see."), CALL, said("\n"), output("a")]

        assert messages_of(items) == [assistant("Let me see.\n", "a"), result("a")]

    def test_a_text_that_follows_calls_alone_is_the_text_of_their_message(self) -> None:
        assert messages_of([CALL, said("I look."), output("a")]) == [assistant("I look.", "a"), result("a")]

    def test_a_user_message_between_a_call_and_its_result_moves_behind_the_result(self) -> None:
        items = [CALL, user("Hurry!"), output("a")]

        assert messages_of(items) == [assistant(None, "a"), result("a"), user("Hurry!")]

    def test_a_note_between_two_results_comes_after_both(self) -> None:
        items = [CALL, call("b"), output("b"), {"role": "developer", "content": "Note."}, output("a")]

        assert messages_of(items) == [
            assistant(None, "a", "b"),
            result("a"),
            result("b"),
            {"role": "developer", "content": "Note."},
        ]

    def test_a_result_finds_its_call_in_the_earlier_messages(self) -> None:
        earlier = [assistant("Let me see.", "a"), assistant("\n")]

        assert messages_of([output("a"), user("So?")], earlier) == [
            assistant("Let me see.", "a"),
            result("a"),
            assistant("\n"),
            user("So?"),
        ]

    def test_calls_of_one_answer_stay_together_though_results_came_between(self) -> None:
        items = [
            thought("Hm.", id=f"rs_{BARE}_0"),
            call("a", id=f"fc_{BARE}_1"),
            output("a"),
            call("b", id=f"fc_{BARE}_2"),
            output("b"),
        ]

        assert messages_of(items) == [
            assistant(None, "a", "b", reasoning_content="Hm."),
            result("a"),
            result("b"),
        ]

    @pytest.mark.parametrize("second", [f"fc_{OTHER}_0", "fc_1", None])
    def test_a_call_of_another_answer_is_another_message(self, second: str | None) -> None:
        items = [call("a", id=f"fc_{BARE}_1"), output("a"), call("b", id=second), output("b")]

        assert messages_of(items) == [assistant(None, "a"), result("a"), assistant(None, "b"), result("b")]

    def test_a_user_message_ends_an_answer(self) -> None:
        items = [call("a", id=f"fc_{BARE}_1"), output("a"), user("And?"), call("b", id=f"fc_{BARE}_2")]

        assert messages_of(items) == [assistant(None, "a"), result("a"), user("And?"), assistant(None, "b")]


class TestReasoning:
    """Test case 03: thoughts return with the message that they led to."""

    def test_reasoning_goes_back_with_the_message_that_follows(self) -> None:
        assert messages_of([user("Hello?"), thought("I must look."), CALL, output("a"), thought("Good."), said("42.")])[
            1:
        ] == [
            assistant(None, "a", reasoning_content="I must look."),
            result("a"),
            assistant("42.", reasoning_content="Good."),
        ]

    def test_reasoning_text_comes_before_summaries(self) -> None:
        summary = [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]

        assert messages_of([thought("All.", summary=summary), said("42.")])[0]["reasoning_content"] == "All."
        for content in (None, [], [{"type": "other", "text": "x"}, "x", {"type": "reasoning_text"}]):
            (message,) = messages_of([thought("", content=content, summary=summary), said("42.")])
            assert message["reasoning_content"] == "One.\n\nTwo."

    @pytest.mark.parametrize(
        "fields",
        [{"content": None}, {"encrypted_content": "sealed", "content": None}, {"summary": None, "content": "x"}],
        ids=str,
    )
    def test_reasoning_that_can_not_be_read_is_left_out(self, fields: dict[str, Any]) -> None:
        assert messages_of([thought("", **fields), said("42.")]) == [assistant("42.")]

    def test_thoughts_between_a_text_and_a_call_belong_to_their_message(self) -> None:
        items = [thought("One. "), said("I look."), thought("Two."), CALL]

        assert messages_of(items) == [assistant("I look.", "a", reasoning_content="One. Two.")]

    def test_thoughts_that_led_to_nothing_belong_to_the_answer_before_them(self) -> None:
        assert messages_of([said("42."), thought("Sure?"), user("Thanks.")]) == [
            assistant("42.", reasoning_content="Sure?"),
            user("Thanks."),
        ]
        assert messages_of([user("Hello?"), thought("Hm."), user("Hello?")]) == [user("Hello?"), user("Hello?")]
        assert messages_of([thought("Hm.")]) == []


class TestAnswers:
    def test_each_answer_names_the_job_that_one_of_its_items_names(self) -> None:
        items = [
            user("Hello?"),
            thought("Hm."),
            call("a", id=f"fc_{BARE}_1"),
            call("b"),
            output("b"),
            output("a"),
            said("Done.", id=f"msg_{OTHER}_0"),
            user("So?"),
            call("c", id="fc_1"),
        ]

        messages, answers = conversation_of(items, [assistant("Before.")])

        assert [answer.job for answer in answers] == [JOB, f"job_{OTHER}", ""]
        assert [answer.message for answer in answers] == [messages[2], messages[5], messages[7]]
        assert all(any(answer.message is message for message in messages) for answer in answers)

    @pytest.mark.parametrize("item_id", ["fc_1", None, 7, f"fc_{BARE}", f"fc_{BARE}_in_1", f"xx_{BARE}_1"])
    def test_an_id_of_another_server_names_none(self, item_id: Any) -> None:
        assert [answer.job for answer in conversation_of([call("a", id=item_id)]).answers] == [""]

    def test_a_callers_call_keeps_the_fields_that_are_known_to_be_an_upstreams(self) -> None:
        signed = {"extra_content": {"a": 1}, "thought_signature": "s"}
        items: list[dict[str, Any]] = [
            {**CALL, **signed, "internal_id": "x", "function": {"x": 1}},
            {**CALL, "type": "custom_tool_call", "internal_id": "x"},
            user("Hello?") | {"internal_id": "x"},
        ]

        assert [from_caller(item) for item in items] == [
            {**CALL, **signed},
            {**CALL, "type": "custom_tool_call"},
            items[2],
        ]


class TestRefusals:
    def test_items_without_content_for_a_model_are_passed_over(self) -> None:
        silent: list[dict[str, Any]] = [{"type": "additional_tools", "tools": []}, {"type": "configuration_update"}]

        assert messages_of([*silent, user("Hello?")]) == [user("Hello?")]

    @pytest.mark.parametrize(
        ("item", "param"),
        [
            ({"role": "tool", "content": "x"}, "input[0].role"),
            ({"role": "user"}, "input[0].content"),
            ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
            ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
            ({"type": "function_call", "call_id": "a", "name": "f"}, "input[0].arguments"),
            ({"type": "function_call_output", "call_id": "a"}, "input[0].output"),
            ({"type": "function_call_output", "output": "42"}, "input[0].call_id"),
            ({"type": "custom_tool_call", "call_id": "a", "name": "f"}, "input[0].input"),
            ({"type": "custom_tool_call_output", "output": "42"}, "input[0].call_id"),
            ({"type": "compaction", "encrypted_content": "sealed"}, "input[0]"),
            ({"type": "compaction_trigger"}, "input[0]"),
            ({"type": "web_search_call"}, "input[0].type"),
            ({"type": 7}, "input[0].type"),
        ],
        ids=str,
    )
    def test_an_item_that_a_chat_cannot_express_is_refused_by_its_place(self, item: dict[str, Any], param: str) -> None:
        error = refusal(input=[item])

        assert error.param == param
        assert str(error).startswith(f"{param} must")
