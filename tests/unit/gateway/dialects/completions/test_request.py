"""Test a legacy completions request as a chat request, or a sentence that names the field."""

from typing import Any

import pytest

from gateway.dialects.completions.request import chat_request_of
from shared.model.errors import InvalidRequest


def test_a_prompt_is_a_users_message_and_other_fields_keep_their_names() -> None:
    body = {
        "model": "m",
        "prompt": "Name three rivers.",
        "max_tokens": 9,
        "temperature": 0,
        "n": 2,
        "best_of": 2,
        "stop": ["\n"],
        "suffix": None,
        "echo": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": None,
        "top_k": 5,
        "tools": None,
    }

    assert chat_request_of(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Name three rivers."}],
        "max_tokens": 9,
        "temperature": 0,
        "n": 2,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 5,
    }


def test_a_list_of_one_text_is_a_prompt_and_no_limit_is_made_up() -> None:
    assert chat_request_of({"prompt": ["Hello"]}) == {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("logprobs", "chat"),
    [
        (None, {}),
        (False, {}),
        (0, {"logprobs": True}),
        (1, {"logprobs": True, "top_logprobs": 1}),
        (20, {"logprobs": True, "top_logprobs": 20}),
    ],
)
def test_log_probabilities_are_asked_for_as_a_chat_does(logprobs: Any, chat: dict[str, Any]) -> None:
    request = chat_request_of({"prompt": "a", "logprobs": logprobs})

    assert {name: value for name, value in request.items() if name != "messages"} == chat


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("prompt", None, "prompt must be a string, or a list of one string."),
        ("prompt", [], "prompt must be a string, or a list of one string."),
        ("prompt", {"a": 1}, "prompt must be a string, or a list of one string."),
        ("prompt", ["a", "b"], "prompt must be a single string; send one request for each prompt."),
        ("prompt", ["a", 1], "prompt must be a single string; send one request for each prompt."),
        ("prompt", [1, 2], "prompt must be a string: tokens are not supported."),
        ("prompt", [[1, 2]], "prompt must be a string: tokens are not supported."),
        ("suffix", "end", "suffix is not supported: the prompt is answered as a chat; leave it out."),
        ("echo", True, "echo must be false: the prompt is answered as a chat, not continued."),
        ("best_of", 3, "best_of must be left out, or the same as n."),
        ("logprobs", True, "logprobs must be a whole number from 0 to 20."),
        ("logprobs", 21, "logprobs must be a whole number from 0 to 20."),
        ("logprobs", -1, "logprobs must be a whole number from 0 to 20."),
        ("logprobs", "1", "logprobs must be a whole number from 0 to 20."),
        ("messages", [], "messages is a field of /v1/chat/completions; here, send prompt."),
        ("tools", [{}], "tools is a field of /v1/chat/completions; here, send prompt."),
        ("functions", [{}], "functions is a field of /v1/chat/completions; here, send prompt."),
    ],
    ids=str,
)
def test_a_field_that_a_chat_cannot_honour_is_named(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_request_of({"prompt": "a", field: value})

    assert (str(refused.value), refused.value.param) == (sentence, field)
