"""Test the request of Responses as a chat request, and its refusals by the name of the field."""

from typing import Any

import pytest

from gateway.dialects.responses.request import (
    ResponseRequest,
    chat_request,
    read_request,
    referenced_jobs,
    resolved,
    said_before,
)
from shared.model.errors import InvalidRequest
from shared.model.events import encode_data
from shared.model.jobs import new_job_id

JOB = new_job_id(1_700_000_000_000, 42)
BARE = JOB.removeprefix("job_")
MAX_BYTES = 10_000
CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
CHAT_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(**fields: Any) -> ResponseRequest:
    return read_request({"model": "m", "input": "Hello?", **fields})


def chat(earlier: Any = (), **fields: Any) -> dict[str, Any]:
    request = read(**fields)
    return chat_request(request, earlier, request.items, MAX_BYTES)[0]


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    return caught.value


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


class TestFields:
    def test_a_text_is_a_users_message(self) -> None:
        assert chat() == {"model": "m", "messages": [user("Hello?")]}

    def test_instructions_come_before_the_earlier_messages(self) -> None:
        messages = chat(earlier=[user("One")], instructions="Be brief.")["messages"]

        assert messages == [{"role": "system", "content": "Be brief."}, user("One"), user("Hello?")]

    def test_the_defaults_are_a_foreground_response_that_is_not_streamed(self) -> None:
        request = read()

        assert (request.streaming, request.background, request.previous) == (False, False, None)
        assert request.echo == {"background": False}

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
            seed=7,
            top_k=20,
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
            "seed": 7,
            "top_k": 20,
        }

    def test_logprobs_are_requested_only_if_they_are_included(self) -> None:
        assert "logprobs" not in chat(top_logprobs=2)
        assert chat(include=["message.output_text.logprobs"])["logprobs"] is True

    def test_fields_for_the_gateway_only_do_not_reach_the_upstream(self) -> None:
        ours = {"stream": True, "stream_options": {}, "background": True, "store": True, "metadata": {"a": "b"}}

        assert chat(**ours, truncation="disabled", max_tool_calls=3, n=1) == chat()

    @pytest.mark.parametrize(
        "fields",
        [
            {"client_metadata": {"a": "b"}},
            {"access_programs": {"cyber": "standard"}},
            {"image": {"context_compression": "auto"}},
            {"prompt_cache_options": {"mode": "explicit"}},
            {"prompt_cache_retention": "24h"},
            {"background_options": {"completion_window": "soonest", "continuation_id": "c"}},
            {"max_tool_calls": 3},
            {"generate": True, "type": "response.create", "stream_id": "s"},
            {"context_management": None, "moderation": None, "conversation": None},
            {"something_new": {"a": 1}},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_fields_unknown_to_chat_upstreams_do_not_reach_them(self, fields: dict[str, Any]) -> None:
        assert chat(**fields) == chat()

    def test_names_that_mean_nothing_are_listed_without_their_values(self) -> None:
        request = read(something_new="secret", client_metadata={"a": "b"}, temperature=1)

        assert request.unknown == ["something_new"]

    def test_the_requested_fields_are_kept_for_the_response_object(self) -> None:
        asked = {"instructions": "Be brief.", "temperature": 1, "store": True, "previous_response_id": "resp_1"}
        request = read(**asked, stream=True, metadata={"a": "b"}, user=None)

        assert request.echo == {**asked, "background": False}
        assert request.previous == "resp_1"

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

    def test_tools_are_echoed_as_they_were_asked_also_those_that_are_left_out(self) -> None:
        tools = [{"type": "web_search", "external_web_access": False}, {"type": "custom", "name": "patch"}]

        assert read(tools=tools, tool_choice="auto").echo["tools"] == tools

    def test_tools_that_input_items_add_are_offered_like_the_others(self) -> None:
        added = {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "g"}]}
        request = read(tools=[], input=[added, user("Hello?")], tool_choice="required")

        asked, _ = chat_request(request, (), request.items, MAX_BYTES)

        assert asked["tools"] == [{"type": "function", "function": {"name": "g"}}]
        assert asked["messages"] == [user("Hello?")]
        assert request.echo["tools"] == []

    def test_tools_that_an_earlier_response_has_added_are_inherited(self) -> None:
        earlier = read(input=[{"type": "additional_tools", "tools": [{"type": "function", "name": "g"}]}]).echo
        added = {"type": "additional_tools", "tools": [{"type": "function", "name": "h"}]}

        request = read(input=[added, user("Hello?")]).after(earlier)

        offered = chat_request(request, (), request.items, MAX_BYTES)[0]["tools"]
        assert [tool["function"]["name"] for tool in offered] == ["g", "h"]
        assert request.after(request.echo) == request
        assert read().after({}) == read()

    @pytest.mark.parametrize("choice", [None, "auto", "none"])
    def test_options_of_tools_are_left_out_without_tools(self, choice: str | None) -> None:
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
            ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
            ({"tools": [{"name": "f"}]}, "tools[0].type"),
            ({"tools": ["f"]}, "tools[0]"),
            ({"tools": [{"type": "function"}]}, "tools[0].name"),
            ({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "mcp"}}, "tool_choice"),
            ({"tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": 1}, "parallel_tool_calls"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"include": "all"}, "include"),
            ({"include": ["everything"]}, "include[0]"),
            ({"top_logprobs": 21}, "top_logprobs"),
            ({"top_logprobs": -1}, "top_logprobs"),
            ({"max_tool_calls": 0}, "max_tool_calls"),
            ({"service_tier": "cheap"}, "service_tier"),
            ({"context_management": [{"type": "compaction", "compact_threshold": 1000}]}, "context_management"),
            ({"moderation": {"model": "omni"}}, "moderation"),
            ({"generate": False}, "generate"),
            ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
            ({"background_options": {"completion_window": "8h"}}, "background_options.completion_window"),
            ({"background_options": "8h"}, "background_options"),
            ({"user": 7}, "user"),
            ({"tailrace": {}}, "tailrace"),
            ({"reasoning": {"effort": ["low"]}}, "reasoning.effort"),
            ({"text": {"verbosity": True}}, "text.verbosity"),
            ({"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]}, "input[0].tools[0].name"),
            ({"input": None}, "input"),
            ({"input": []}, "input"),
            ({"input": {"role": "user"}}, "input"),
            ({"input": ["Hello?"]}, "input[0]"),
            ({"input": [None]}, "input[0]"),
            ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ],
        ids=str,
    )
    def test_an_unsupported_or_malformed_field_is_refused_by_its_name(self, fields: dict[str, Any], param: str) -> None:
        error = refusal(**fields)

        assert error.param == param
        assert str(error).startswith(param.split("[")[0].split(".")[0])


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
        assert chat(input=long)["messages"] == [user(long)]  # a body's size is checked before

    def test_references_name_the_jobs_whose_output_is_needed(self) -> None:
        def reference(item_id: Any) -> dict[str, Any]:
            return {"type": "item_reference", "id": item_id}

        items = [reference(f"msg_{BARE}_0"), reference(f"fc_{BARE}_12"), reference("msg_1"), reference(None), CALL]

        assert referenced_jobs(items) == [JOB]

    def test_an_id_without_a_type_is_a_reference(self) -> None:
        assert referenced_jobs(read(input=[{"id": f"rs_{BARE}_0"}]).items) == [JOB]
        assert read(input=[user("Hello?")]).items == [user("Hello?")]

    def test_references_are_replaced_by_the_items_and_unknown_ones_refused(self) -> None:
        reference = {"type": "item_reference", "id": f"fc_{BARE}_0"}

        assert resolved([user("Hello?"), reference], {f"fc_{BARE}_0": CALL}, 1000) == [user("Hello?"), CALL]
        with pytest.raises(InvalidRequest) as caught:
            resolved([user("Hello?"), reference], {}, 1000)
        assert caught.value.param == "input[1].id"

    def test_an_item_counts_as_often_as_it_is_referred_to(self) -> None:
        reference = {"type": "item_reference", "id": f"fc_{BARE}_0"}
        size = len(encode_data(CALL))

        assert len(resolved([reference] * 3, {f"fc_{BARE}_0": CALL}, 3 * size)) == 3
        with pytest.raises(InvalidRequest, match=f"at most {3 * size - 1} bytes") as caught:
            resolved([reference] * 3, {f"fc_{BARE}_0": CALL}, 3 * size - 1)
        assert caught.value.param == "input"
