"""Test the bodies of upstream requests, as a provider's settings shape them."""

from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams

from gateway.specs.own_fields import OWN_FIELDS
from shared.model.jobs import KEPT
from shared.model.routes import Continuation, DeveloperRole, EmbeddingEncoding, MaxTokensField, RequestRules
from worker.model.continuation import rest_of
from worker.model.digest import PartialAnswer
from worker.upstream.wire.request_writer import (
    CHAT_FIELDS,
    EMBEDDINGS_FIELDS,
    TAILRACE_FIELDS,
    has_callers_options,
    state_fields,
    write_chat,
    write_embeddings,
)
from worker.upstream.wire.transport_fields import TransportField

OPENAI = RequestRules()
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
FIELDS = {"max_tokens", "max_completion_tokens"}


def test_a_chat_is_streamed_with_its_usage() -> None:
    request = {**ASKED, "temperature": 0.5, "top_k": 5, "metadata": {"a": "b"}}

    assert write_chat(request, OPENAI) == {**request, **USAGE}


def test_the_request_itself_stays_as_it_is() -> None:
    request = {**ASKED, "stream_options": {"include_obfuscation": False}, "max_tokens": 5}
    before = {**request, "messages": [*request["messages"]]}
    write_chat(request, RequestRules(streaming=False, max_tokens_field=MaxTokensField.MAX_COMPLETION_TOKENS))

    assert request == before


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"include_usage": False, "include_obfuscation": False}, {"include_usage": True, "include_obfuscation": False}),
        (None, {"include_usage": True}),
        ("yes", {"include_usage": True}),
    ],
)
def test_usage_is_requested_in_any_case(given: object, sent: dict[str, bool]) -> None:
    assert write_chat({**ASKED, "stream_options": given}, OPENAI)["stream_options"] == sent


@pytest.mark.parametrize("stream", [True, False, None, "yes"])
def test_the_callers_own_stream_does_not_matter(stream: object) -> None:
    assert write_chat({**ASKED, "stream": stream}, OPENAI) == {**ASKED, **USAGE}


def test_tailraces_own_fields_never_go_up() -> None:
    own = dict.fromkeys(TAILRACE_FIELDS, "x")

    assert write_chat({**ASKED, **own}, OPENAI) == {**ASKED, **USAGE}
    assert write_embeddings({"model": "m", "input": ["a"], **own}, OPENAI).keys() == {
        "model",
        "input",
        "encoding_format",
    }


def test_tailraces_own_fields_are_those_of_the_gateway_that_openai_does_not_have() -> None:
    assert ({*OWN_FIELDS} - CHAT_FIELDS) | {KEPT} == TAILRACE_FIELDS


@pytest.mark.parametrize(
    ("rules", "left_out"),
    [(RequestRules(streaming=False), ()), (OPENAI, {TransportField.STREAM}), (OPENAI, {*TransportField})],
)
def test_a_provider_that_cannot_stream_is_asked_for_a_whole_answer(
    rules: RequestRules, left_out: set[TransportField]
) -> None:
    request = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}

    assert write_chat(request, rules, left_out) == ASKED


@pytest.mark.parametrize(
    ("rules", "left_out"), [(RequestRules(stream_usage=False), ()), (OPENAI, {TransportField.STREAM_OPTIONS})]
)
def test_a_provider_that_counts_no_stream_is_not_asked_for_usage(
    rules: RequestRules, left_out: set[TransportField]
) -> None:
    request = {**ASKED, "stream_options": {"include_usage": True}}

    assert write_chat(request, rules, left_out) == {**ASKED, "stream": True}


def test_state_of_earlier_answers_goes_up_unless_the_provider_has_refused_it() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [{**call, "extra": 1}]}
    request = {**ASKED, "messages": [*ASKED["messages"], answer]}

    def sent(*left_out: TransportField) -> Any:
        return write_chat(request, OPENAI, left_out)["messages"][1]

    bare = {name: value for name, value in answer.items() if name != "reasoning_content"}
    assert sent() == answer
    assert sent(TransportField.THOUGHTS) == bare
    assert sent(TransportField.CALL_STATE) == {**answer, "tool_calls": [call]}
    assert sent(*TransportField) == {**bare, "tool_calls": [call]}
    assert state_fields(request) == {"reasoning_content", "extra"}
    assert state_fields(ASKED) == frozenset()


@pytest.mark.parametrize(
    ("limits", "field", "sent"),
    [
        ({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", {"max_completion_tokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": None}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({}, "max_completion_tokens", {}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, None, {"max_tokens": 5, "max_completion_tokens": 6}),
    ],
)
def test_the_limit_is_given_in_the_field_that_the_provider_has(
    limits: dict[str, Any], field: str | None, sent: dict[str, Any]
) -> None:
    rules = RequestRules(max_tokens_field=None if field is None else MaxTokensField(field))
    body = write_chat({**ASKED, **limits}, rules)

    assert {name: value for name, value in body.items() if name in FIELDS} == sent


def test_a_developer_message_becomes_a_system_one_if_the_provider_requires_it() -> None:
    messages = [{"role": role, "content": "x"} for role in ("developer", "system", "user")]
    body = write_chat({"messages": messages}, RequestRules(developer_role=DeveloperRole.SYSTEM))

    assert [message["role"] for message in body["messages"]] == ["system", "system", "user"]
    assert [message["role"] for message in messages] == ["developer", "system", "user"]


def test_unknown_fields_stay_here_if_the_provider_is_strict() -> None:
    strict = RequestRules(pass_unknown=False)
    known = {**ASKED, "tools": [], "reasoning_effort": "low"}

    assert write_chat({**known, "top_k": 5, "x_vendor": {}}, strict) == {**known, **USAGE}
    assert write_embeddings({"model": "m", "input": ["a"], "truncate": True}, strict) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": "base64",
    }


def test_the_rest_of_an_answer_can_be_asked_of_a_strict_provider() -> None:
    rest = rest_of(ASKED, PartialAnswer(), Continuation.CONTINUE_FINAL_MESSAGE)
    body = write_chat(rest, RequestRules(pass_unknown=False))

    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_the_known_fields_are_those_of_openai() -> None:
    assert CompletionCreateParamsStreaming.__annotations__.keys() - {"stream"} == CHAT_FIELDS
    assert EmbeddingCreateParams.__annotations__.keys() - {"encoding_format"} == EMBEDDINGS_FIELDS


@pytest.mark.parametrize(
    ("rules", "left_out", "sent"),
    [
        (OPENAI, (), {"encoding_format": "base64"}),
        (RequestRules(embedding_encoding=EmbeddingEncoding.FLOAT), (), {"encoding_format": "float"}),
        (OPENAI, {TransportField.ENCODING_FORMAT}, {}),
    ],
)
def test_vectors_are_asked_for_as_the_provider_can_give_them(
    rules: RequestRules, left_out: set[TransportField], sent: dict[str, Any]
) -> None:
    request = {"model": "m", "input": ["a"], "user": "me"}

    assert write_embeddings(request, rules, left_out) == {**request, **sent}


@pytest.mark.parametrize(
    ("options", "callers"),
    [(None, False), ({"include_usage": True}, False), ({"include_usage": True, "include_obfuscation": False}, True)],
)
def test_further_options_of_a_stream_are_the_callers(options: object, callers: bool) -> None:
    assert has_callers_options({"stream_options": options}) is callers
