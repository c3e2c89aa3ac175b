"""Test the parameters of a chat request: the accepted values, and the error sentence for every other value."""

from typing import Any

import pytest

from gateway.dialects.chat_parameters import check_parameter, check_parameters
from shared.model.errors import InvalidRequest

FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
NAMES = (
    *("temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "seed", "stop", "presence_penalty"),
    *("frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "stream_options"),
    *("reasoning_effort", "verbosity", "user", "service_tier", "safety_identifier", "prompt_cache_key", "store"),
    *("modalities", "audio", "prediction", "web_search_options", "response_format", "tools", "tool_choice"),
    *("functions", "function_call"),
)

TEXTS = ("verbosity", "user", "service_tier", "safety_identifier", "prompt_cache_key")


def refusal(name: str, value: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_parameters({name: value})
    return caught.value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [0, 0.0, 0.7, 1, 2, 2.0]),
        ("top_p", [0, 0.5, 1]),
        ("n", [1, 128]),
        ("max_tokens", [1, 4096, 10**9, -1]),
        ("max_completion_tokens", [1, 10**9]),
        ("seed", [0, -1, 42, 2**63 - 1, -(2**63)]),
        ("stop", ["", "\n", [], ["a"], ["a", "b", "c", "d", "e", "f"]]),
        ("presence_penalty", [-2, 0, 1.5, 2]),
        ("frequency_penalty", [-2.0, 0, 2]),
        ("logit_bias", [{}, {"50256": -100}, {"1": 0.5, "Hello": False}, [], [[15043, 1.0], ["a", False]]]),
        ("logprobs", [True, False]),
        ("top_logprobs", [0, 20]),
        ("parallel_tool_calls", [True, False]),
        ("stream_options", [{}, {"include_usage": True}, {"include_usage": None}, {"include_obfuscation": False}]),
        ("reasoning_effort", ["low", "xhigh", "whatever comes next", 4096, False]),
        ("verbosity", ["low"]),
        ("user", ["", "me"]),
        ("service_tier", ["auto"]),
        ("safety_identifier", ["x"]),
        ("prompt_cache_key", ["x"]),
        ("store", [True]),
        ("modalities", [[], ["text", "audio"]]),
        ("audio", [{"voice": "alloy", "format": "mp3"}]),
        ("prediction", [{"type": "content", "content": "x"}]),
        ("web_search_options", [{}]),
        (
            "response_format",
            [
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_object", "schema": {}},
                {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
                {"type": "json_schema", "json_schema": None, "schema": {}},
                {"type": "grammar", "grammar": "root ::= .*"},
            ],
        ),
        (
            "tools",
            [
                [],
                [FUNCTION],
                [{"function": {"name": "x"}}],
                [{"type": "custom", "custom": {"name": "x"}}],
                [{"type": "builtin_function", "function": {"name": "$web_search"}}],
                [{"type": "web_search", "web_search": {"enable": True}}],
                [{"google_search": {}}],
                [{"type": "mcp", "server_label": "x", "function": None}],
            ],
        ),
        (
            "tool_choice",
            [
                *("none", "auto", "required", "any"),
                {"type": "function", "function": {"name": "look"}},
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
                {"type": "custom", "custom": {"name": "x"}},
                {"type": "any"},
            ],
        ),
        ("functions", [[], [{"name": "x"}]]),
        ("function_call", ["none", "auto", {"name": "x"}]),
    ],
)
def test_values_that_upstreams_accept_pass(name: str, values: list[Any]) -> None:
    for value in values:
        check_parameters({name: value})


@pytest.mark.parametrize("name", NAMES)
def test_null_counts_as_absent(name: str) -> None:
    check_parameters({name: None})
    check_parameter(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_takes_a_value_of_every_type(name: str) -> None:
    wrong = {"stop": 5, "reasoning_effort": 0.5, "logit_bias": 5, "tool_choice": 5, "function_call": 5}
    error = refusal(name, wrong.get(name, "5" if name not in TEXTS else 5))

    assert error.param == name
    assert str(error).startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("name", "value", "param", "must"),
    [
        ("temperature", 2.1, "temperature", "a number from 0 to 2"),
        ("temperature", -0.1, "temperature", "a number from 0 to 2"),
        ("temperature", 10**400, "temperature", "a number from 0 to 2"),
        ("temperature", "0.7", "temperature", "a number from 0 to 2"),
        ("temperature", True, "temperature", "a number from 0 to 2"),
        ("temperature", [1], "temperature", "a number from 0 to 2"),
        ("top_p", 1.5, "top_p", "a number from 0 to 1"),
        ("top_p", -1, "top_p", "a number from 0 to 1"),
        ("n", 0, "n", "a whole number from 1 to 128"),
        ("n", 129, "n", "a whole number from 1 to 128"),
        ("n", 1.5, "n", "a whole number from 1 to 128"),
        ("n", "2", "n", "a whole number from 1 to 128"),
        ("n", True, "n", "a whole number from 1 to 128"),
        ("max_tokens", 0, "max_tokens", "a whole number of at least 1"),
        ("max_tokens", -2, "max_tokens", "a whole number of at least 1"),
        ("max_tokens", 1.5, "max_tokens", "a whole number of at least 1"),
        ("max_tokens", "100", "max_tokens", "a whole number of at least 1"),
        ("max_tokens", 2**64, "max_tokens", "a whole number of at least 1"),
        ("max_completion_tokens", -1, "max_completion_tokens", "a whole number of at least 1"),
        ("max_completion_tokens", True, "max_completion_tokens", "a whole number of at least 1"),
        ("seed", 1.5, "seed", "a whole number of at most 64 bits"),
        ("seed", "1", "seed", "a whole number of at most 64 bits"),
        ("seed", 2**63, "seed", "a whole number of at most 64 bits"),
        ("stop", 5, "stop", "a string or a list of strings"),
        ("stop", ["a", 5], "stop", "a string or a list of strings"),
        ("stop", {"a": 1}, "stop", "a string or a list of strings"),
        ("presence_penalty", 2.5, "presence_penalty", "a number from -2 to 2"),
        ("frequency_penalty", -3, "frequency_penalty", "a number from -2 to 2"),
        ("logit_bias", "x", "logit_bias", "an object of numbers, by token"),
        ("logprobs", 5, "logprobs", "true or false"),
        ("logprobs", "true", "logprobs", "true or false"),
        ("top_logprobs", 21, "top_logprobs", "a whole number from 0 to 20"),
        ("top_logprobs", True, "top_logprobs", "a whole number from 0 to 20"),
        ("parallel_tool_calls", 1, "parallel_tool_calls", "true or false"),
        ("stream_options", [], "stream_options", "an object"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage", "true or false"),
        ("reasoning_effort", {"effort": "low"}, "reasoning_effort", "a string, such as low, medium or high"),
        ("user", 7, "user", "a string"),
        ("modalities", ["text", 1], "modalities", "a list of strings"),
        ("modalities", "text", "modalities", "a list of strings"),
        (
            "response_format",
            "json",
            "response_format",
            "an object with a type, such as text, json_object or json_schema",
        ),
        ("response_format", {}, "response_format", "an object with a type, such as text, json_object or json_schema"),
        ("response_format", {"type": "json_schema", "json_schema": 1}, "response_format.json_schema", "an object"),
        ("tools", {}, "tools", "a list of objects"),
        ("tools", "look", "tools", "a list of objects"),
        ("tools", [FUNCTION, "look"], "tools[1]", "an object"),
        ("tools", [{"type": 1}], "tools[0].type", "a string"),
        ("tools", [{"type": "function"}], "tools[0].function", "an object with a name"),
        ("tools", [{"type": "function", "name": "x"}], "tools[0].function", "an object with a name"),
        ("tools", [{"function": {}}], "tools[0].function.name", "a string that is not empty"),
        (
            "tools",
            [{"type": "function", "function": {"name": ""}}],
            "tools[0].function.name",
            "a string that is not empty",
        ),
        ("tools", [{"type": "custom", "custom": {"name": 1}}], "tools[0].custom.name", "a string that is not empty"),
        ("tool_choice", 1, "tool_choice", "none, auto, required or an object"),
        ("tool_choice", {"type": "function"}, "tool_choice.function", "an object with a name"),
        ("functions", {}, "functions", "a list of objects"),
        ("functions", [{}], "functions[0].name", "a string that is not empty"),
        ("function_call", {}, "function_call.name", "a string that is not empty"),
        ("function_call", 1, "function_call", "an object with a name"),
    ],
)
def test_any_other_value_is_refused_with_the_right_form(name: str, value: object, param: str, must: str) -> None:
    error = refusal(name, value)

    assert (str(error), error.param) == (f"{param} must be {must}.", param)


@pytest.mark.parametrize("bias", [101, -101, "1", None, True, [1]])
def test_a_bias_out_of_range_names_its_token_in_short(bias: object) -> None:
    error = refusal("logit_bias", {"a" * 100: bias})

    assert str(error) == f"logit_bias: the bias of a token, as of '{'a' * 40}', must be a number from -100 to 100."
    assert error.param == "logit_bias"


def test_fields_that_are_not_known_here_pass() -> None:
    check_parameters({"top_k": -5, "min_p": "x", "model": 7, "messages": None, "": {}})
    check_parameter("top_k", "x")


def test_another_dialect_is_answered_in_its_own_spelling() -> None:
    with pytest.raises(InvalidRequest, match=r"^max_output_tokens must be a whole number of at least 1\.$") as caught:
        check_parameter("max_completion_tokens", 0, "max_output_tokens")
    assert caught.value.param == "max_output_tokens"

    with pytest.raises(InvalidRequest, match=r"^top_p must be a number from 0 to 1\.$"):
        check_parameter("top_p", 2)
