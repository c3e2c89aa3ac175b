"""What is asked of Responses, as a chat request; and what is refused, by the name of the field."""

from typing import Any

import pytest

from gateway.dialects.responses_request import (
    ResponseRequest,
    chat_request,
    items_of,
    messages_of,
    read_request,
    referenced_jobs,
    resolved,
    said_before,
)
from shared.errors import InvalidRequest
from shared.jobs import new_job_id

JOB = new_job_id(1_700_000_000_000, 42)
BARE = JOB.removeprefix("job_")
MAX_BYTES = 10_000
CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
CHAT_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(**fields: Any) -> ResponseRequest:
    return read_request({"model": "m", "input": "Hello?", **fields})


def chat(earlier: Any = (), **fields: Any) -> dict[str, Any]:
    request = read(**fields)
    return chat_request(request, earlier, request.items, MAX_BYTES)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    return caught.value


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


class TestFields:
    def test_a_text_is_a_users_message(self) -> None:
        assert chat() == {"model": "m", "messages": [user("Hello?")]}

    def test_instructions_come_first_whatever_was_said_before(self) -> None:
        messages = chat(earlier=[user("One")], instructions="Be brief.")["messages"]

        assert messages == [{"role": "system", "content": "Be brief."}, user("One"), user("Hello?")]

    def test_the_defaults_are_a_stored_foreground_response_that_is_not_streamed(self) -> None:
        request = read()

        assert (request.streaming, request.background, request.stored, request.previous) == (False, False, True, None)
        assert request.echo == {}

    def test_parameters_have_the_names_of_chat_completions(self) -> None:
        asked = chat(
            max_output_tokens=20,
            reasoning={"effort": "low", "summary": "auto"},
            temperature=0.5,
            top_p=None,
            text={"verbosity": "low"},
            include=["message.output_text.logprobs", "reasoning.encrypted_content"],
            top_logprobs=2,
            service_tier="flex",
            something_new={"a": 1},
        )

        del asked["messages"]
        assert asked == {
            "model": "m",
            "max_completion_tokens": 20,
            "reasoning_effort": "low",
            "temperature": 0.5,
            "verbosity": "low",
            "logprobs": True,
            "top_logprobs": 2,
            "service_tier": "flex",
            "something_new": {"a": 1},
        }

    def test_logprobs_are_asked_for_only_where_they_are_included(self) -> None:
        assert "logprobs" not in chat(top_logprobs=2)
        assert chat(include=["message.output_text.logprobs"])["logprobs"] is True

    def test_what_concerns_only_us_does_not_reach_the_upstream(self) -> None:
        ours = {"stream": True, "stream_options": {}, "background": True, "store": True, "metadata": {"a": "b"}}

        assert chat(**ours, truncation="disabled", max_tool_calls=3, n=1) == chat()

    def test_what_was_asked_is_kept_to_be_said_again(self) -> None:
        asked = {"instructions": "Be brief.", "temperature": 1, "store": True, "previous_response_id": "resp_1"}
        request = read(**asked, stream=True, metadata={"a": "b"}, user=None)

        assert request.echo == asked
        assert request.previous == "resp_1"
        assert request.metadata == {"a": "b"}

    def test_structured_output_is_a_response_format(self) -> None:
        schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": None}

        assert chat(text={"format": schema})["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        }
        assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
        assert "response_format" not in chat(text={"format": {"type": "text"}})

    def test_functions_are_tools(self) -> None:
        tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": None}
        asked = chat(tools=[tool], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)

        function = {"name": "f", "parameters": {"type": "object"}, "strict": True}
        assert asked["tools"] == [{"type": "function", "function": function}]
        assert asked["tool_choice"] == {"type": "function", "function": {"name": "f"}}
        assert asked["parallel_tool_calls"] is False
        assert chat(tools=[tool], tool_choice="required")["tool_choice"] == "required"

    @pytest.mark.parametrize("choice", [None, "auto", "none"])
    def test_without_tools_nothing_is_said_of_them(self, choice: str | None) -> None:
        assert chat(tools=[], tool_choice=choice, parallel_tool_calls=True) == chat()

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"conversation": "conv_1"}, "conversation"),
            ({"prompt": {"id": "p"}}, "prompt"),
            ({"messages": []}, "messages"),
            ({"n": 2}, "n"),
            ({"truncation": "auto"}, "truncation"),
            ({"stream": "yes"}, "stream"),
            ({"background": 1}, "background"),
            ({"store": "no"}, "store"),
            ({"background": True, "store": False}, "store"),
            ({"stream_options": True}, "stream_options"),
            ({"previous_response_id": 7}, "previous_response_id"),
            ({"instructions": ["Be brief."]}, "instructions"),
            ({"max_output_tokens": 0}, "max_output_tokens"),
            ({"max_output_tokens": True}, "max_output_tokens"),
            ({"max_output_tokens": 1.5}, "max_output_tokens"),
            ({"reasoning": "low"}, "reasoning"),
            ({"text": "json"}, "text"),
            ({"text": {"format": "json"}}, "text.format"),
            ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
            ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
            ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
            ({"tools": {"type": "function"}}, "tools"),
            ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
            ({"tools": ["f"]}, "tools[0]"),
            ({"tools": [{"type": "function"}]}, "tools[0].name"),
            ({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "mcp"}}, "tool_choice"),
            ({"tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": 1}, "parallel_tool_calls"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"include": "all"}, "include"),
            ({"input": None}, "input"),
            ({"input": []}, "input"),
            ({"input": {"role": "user"}}, "input"),
            ({"input": ["Hello?"]}, "input[0]"),
            ({"input": [None]}, "input[0]"),
            ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ],
        ids=str,
    )
    def test_what_can_not_be_done_is_refused_by_its_name(self, fields: dict[str, Any], param: str) -> None:
        error = refusal(**fields)

        assert error.param == param
        assert str(error).startswith(param.split("[")[0].split(".")[0])


class TestItems:
    def test_messages_may_say_that_they_are_and_need_not(self) -> None:
        said = [{"role": "developer", "content": "Be brief."}, {"type": "message", "role": "user", "content": "Hello?"}]

        assert messages_of(said) == [{"role": "developer", "content": "Be brief."}, user("Hello?")]

    def test_one_text_is_a_text_and_several_parts_are_a_list(self) -> None:
        text = {"type": "input_text", "text": "What is this?"}
        image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}

        assert messages_of([user([text])]) == [user("What is this?")]
        assert messages_of([user([])]) == [user("")]
        assert messages_of([user([text, image])]) == [
            user(
                [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                ]
            )
        ]

    @pytest.mark.parametrize(
        ("part", "as_chat"),
        [
            ({"type": "output_text", "text": "a", "annotations": []}, {"type": "text", "text": "a"}),
            ({"type": "refusal", "refusal": "No."}, {"type": "refusal", "refusal": "No."}),
            (
                {"type": "input_image", "image_url": "http://x.test/a.png"},
                {"type": "image_url", "image_url": {"url": "http://x.test/a.png"}},
            ),
            (
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,"}},
            ),
            (
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            ),
        ],
        ids=lambda part: str(part["type"]),
    )
    def test_each_part_has_its_word_in_a_chat(self, part: dict[str, Any], as_chat: dict[str, Any]) -> None:
        assert messages_of([user([part, part])]) == [user([as_chat, as_chat])]

    def test_calls_belong_to_the_message_before_them(self) -> None:
        said: dict[str, Any] = {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
        other = CALL | {"call_id": "b"}

        assert messages_of([said, CALL, other]) == [
            {"role": "assistant", "content": "I look.", "tool_calls": [CHAT_CALL, CHAT_CALL | {"id": "b"}]}
        ]
        assert messages_of([user("Hello?"), CALL]) == [
            user("Hello?"),
            {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
        ]

    def test_a_call_never_changes_what_was_said_before(self) -> None:
        earlier = [{"role": "assistant", "content": "I look."}]

        assert messages_of([CALL], earlier)[0]["tool_calls"] == [CHAT_CALL]
        assert earlier == [{"role": "assistant", "content": "I look."}]

    def test_a_calls_output_is_a_tools_message(self) -> None:
        output: dict[str, Any] = {"type": "function_call_output", "call_id": "a"}

        for said in ("42", [{"type": "input_text", "text": "42"}]):
            assert messages_of([output | {"output": said}]) == [{"role": "tool", "tool_call_id": "a", "content": "42"}]

    def test_reasoning_is_not_sent_back(self) -> None:
        assert messages_of([{"type": "reasoning", "id": "rs_1", "summary": []}, user("Hello?")]) == [user("Hello?")]

    @pytest.mark.parametrize(
        ("item", "param"),
        [
            ({"role": "tool", "content": "x"}, "input[0].role"),
            ({"role": "user"}, "input[0].content"),
            ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
            ({"role": "user", "content": [{"type": "video"}]}, "input[0].content[0].type"),
            ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
            ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0].image_url"),
            ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0].file_data"),
            ({"type": "function_call", "call_id": "a", "name": "f"}, "input[0].arguments"),
            ({"type": "function_call_output", "call_id": "a"}, "input[0].output"),
            ({"type": "function_call_output", "output": "42"}, "input[0].call_id"),
            ({"type": "web_search_call"}, "input[0].type"),
        ],
        ids=str,
    )
    def test_what_a_chat_has_no_word_for_is_refused_by_its_place(self, item: dict[str, Any], param: str) -> None:
        error = refusal(input=[item])

        assert error.param == param
        assert str(error).startswith(f"{param} must be")


class TestConversations:
    def test_instructions_are_not_carried_over(self) -> None:
        messages = [{"role": "system", "content": "Be brief."}, user("Hello?")]

        assert said_before(messages, {"instructions": "Be brief."}) == [user("Hello?")]
        assert said_before(messages, {}) == messages

    def test_a_response_that_follows_another_needs_no_input(self) -> None:
        assert chat(earlier=[user("One")], input=None, previous_response_id="resp_1")["messages"] == [user("One")]

    def test_a_conversation_that_has_become_too_long_is_refused(self) -> None:
        long = "x" * MAX_BYTES

        assert refusal(earlier=[user(long)]).param == "previous_response_id"
        with pytest.raises(InvalidRequest) as caught:
            chat_request(read(input=[{"type": "item_reference", "id": f"msg_{BARE}_0"}]), [], [user(long)], MAX_BYTES)
        assert caught.value.param == "input"
        assert chat(input=long)["messages"] == [user(long)]  # a body's size is looked at before

    def test_references_name_the_jobs_whose_output_is_needed(self) -> None:
        def reference(item_id: Any) -> dict[str, Any]:
            return {"type": "item_reference", "id": item_id}

        items = [reference(f"msg_{BARE}_0"), reference(f"fc_{BARE}_12"), reference("msg_1"), reference(None), CALL]

        assert referenced_jobs(items) == [JOB]

    def test_references_are_replaced_by_the_items_and_unknown_ones_refused(self) -> None:
        reference = {"type": "item_reference", "id": f"fc_{BARE}_0"}

        assert resolved([user("Hello?"), reference], {f"fc_{BARE}_0": CALL}) == [user("Hello?"), CALL]
        with pytest.raises(InvalidRequest) as caught:
            resolved([user("Hello?"), reference], {})
        assert caught.value.param == "input[1].id"


class TestInputItems:
    def test_messages_become_the_items_that_they_were(self) -> None:
        image = {"type": "input_image", "image_url": "http://x.test/a.png", "detail": "low"}
        file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"}
        said: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image, file]},
            {"role": "assistant", "content": "I look."},
            CALL,
            {"type": "function_call_output", "call_id": "a", "output": "42"},
        ]

        items = items_of(messages_of(said), JOB)

        assert [item["id"] for item in items] == [
            f"msg_{BARE}_in_0",
            f"msg_{BARE}_in_1",
            f"fc_{BARE}_in_2",
            f"fco_{BARE}_in_3",
        ]
        assert items[0]["content"] == [{"type": "input_text", "text": "What is this?"}, image, file]
        assert items[1]["content"] == [{"type": "output_text", "text": "I look.", "annotations": []}]
        assert items[2] == CALL | {"id": f"fc_{BARE}_in_2", "status": "completed"}
        assert items[3]["output"] == "42"
        assert messages_of(items) == messages_of(said)

    def test_whatever_a_native_job_was_given_can_be_shown(self) -> None:
        odd = [
            user(["no part"]),
            {"role": "assistant", "content": None, "tool_calls": ["none", {"id": "a"}]},
            {"role": "tool", "content": [{"type": "text", "text": "42"}]},
            user([{"type": "image_url", "image_url": {"url": "u"}}]),
        ]

        items = items_of(odd, JOB)

        assert items[0]["content"] == ["no part"]
        assert items[1]["output"] == [{"type": "input_text", "text": "42"}]
        assert items[2]["content"] == [{"type": "input_image", "image_url": "u", "detail": "auto"}]
