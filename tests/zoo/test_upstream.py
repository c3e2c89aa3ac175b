"""Test the upstream: it is strict, its loose ways of speaking carry the same answer, and no pin names a registry."""

import json
import re
from typing import Any

import pytest

from tests.zoo.answers import TEXT, answer_to
from tests.zoo.install import environments
from tests.zoo.strictness import DEEPSEEK, GEMINI, MISTRAL, OPENAI, UNVERIFIED, Refusal, Vendor, check
from tests.zoo.upstream import MODELS

USER = {"role": "user", "content": "What is the weather in Bergen and in Oslo?"}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "zoo000000", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bergen"}'}}
CALLING: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "zoo000000", "content": "7 degrees"}
THOUGHTFUL = {**CALLING, "reasoning_content": "I must look: zoo000000 will tell."}
SIGNED = {"google": {"thought_signature": "c2ln-zoo000000"}}


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "any", "messages": list(messages), **fields}


def test_a_good_chat_is_not_refused() -> None:
    check(chat({"role": "developer", "content": "Be brief."}, USER, CALLING, RESULT, tools=[WEATHER]), OPENAI)
    check(chat(USER, THOUGHTFUL, RESULT), DEEPSEEK)
    check(chat(USER, {**CALLING, "tool_calls": [{**CALL, "extra_content": SIGNED}]}, RESULT), GEMINI)
    check(chat(USER, CALLING, RESULT, max_tokens=5), MISTRAL)


@pytest.mark.parametrize(
    ("vendor", "body", "words"),
    [
        pytest.param(OPENAI, chat(USER, client_metadata={}), "client_metadata", id="unknown-field"),
        pytest.param(OPENAI, chat(USER, stream_options={}), "stream_options", id="stream-options-alone"),
        pytest.param(UNVERIFIED, chat(USER, stream=True), "verified", id="stream-without-verification"),
        pytest.param(OPENAI, chat(USER, tools=[]), "too short", id="no-tools"),
        pytest.param(OPENAI, chat(USER, tool_choice="auto"), "tool_choice", id="choice-without-tools"),
        pytest.param(OPENAI, chat(USER, tools=[{"type": "web_search"}]), "function", id="hosted-tool"),
        pytest.param(OPENAI, chat(USER, THOUGHTFUL, RESULT), "reasoning_content", id="foreign-message-field"),
        pytest.param(OPENAI, chat(USER, CALLING), "must be followed", id="no-result"),
        pytest.param(OPENAI, chat(USER, CALLING, USER, RESULT), "must be followed", id="a-word-between"),
        pytest.param(OPENAI, chat(USER, RESULT), "preceding message", id="no-call"),
        pytest.param(OPENAI, chat(USER, CALLING, RESULT, RESULT), "preceding message", id="two-results"),
        pytest.param(OPENAI, chat({"role": "user", "content": None}), "expected a string", id="no-content"),
        pytest.param(DEEPSEEK, chat(USER, CALLING, RESULT), "must be passed back", id="no-thoughts"),
        pytest.param(DEEPSEEK, chat({"role": "developer", "content": "Be brief."}, USER), "developer", id="developer"),
        pytest.param(GEMINI, chat(USER, CALLING, RESULT), "thought_signature", id="no-signature"),
        pytest.param(MISTRAL, chat(USER, stream=True, stream_options={}), "stream_options", id="mistral-options"),
    ],
)
def test_a_bad_chat_is_refused_with_its_field(vendor: Vendor, body: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refused:
        check(body, vendor)
    status, error = vendor.error(refused.value)
    assert words in str(refused.value) or words in json.dumps(error)
    assert status in (400, 422)


@pytest.mark.parametrize("model", MODELS)
def test_each_manner_carries_all_of_the_text(model: str) -> None:
    _, manner = MODELS[model]
    answer = answer_to(chat({"role": "user", "content": "How are you?"}))
    said = b"".join(manner.stream(answer, usage=True)).decode()
    assert answer.text == TEXT
    assert sum(said.count(json.dumps(character, ensure_ascii=False)[1:-1]) for character in "🐼ï") == 2
    assert json.dumps(manner.completion(answer), ensure_ascii=False).count("🐼") == 1


def test_the_pins_name_no_registry() -> None:
    for environment in environments():
        for path in environment.pins.iterdir():
            assert not re.search(r'"resolved"|://(?!github\.com/sponsors/)', path.read_text()), path
