"""Test the state that returns with a message, and the fingerprint by which its job is found."""

import copy
from typing import Any

import pytest

from gateway.dialects.responses.answer_state import give_back, is_from, lacking, prefix_fingerprints, prompt_fingerprint
from gateway.dialects.responses.items import Answer
from gateway.dialects.responses.logged_answer import LoggedAnswer
from tests.unit.gateway.dialects.responses.test_items import assistant, result
from tests.unit.gateway.dialects.responses.test_request import CHAT_CALL, user

SIGNED = {"extra_content": {"google": {"thought_signature": "s"}}}
LOGGED = LoggedAnswer("I must look.", {"a": SIGNED, "b": {}})


def complete(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


class TestGivingBack:
    def test_a_message_gets_the_thoughts_and_the_fields_of_its_calls(self) -> None:
        message = assistant(None, "a", "b")

        give_back(message, LOGGED)

        assert message == complete(CHAT_CALL | SIGNED, CHAT_CALL | {"id": "b"}, reasoning_content="I must look.")

    def test_the_log_is_right_about_calls_and_the_caller_about_thoughts(self) -> None:
        message = complete(CHAT_CALL | {"signature": "forged"}, reasoning_content="Mine.")

        give_back(message, LOGGED)

        assert message == complete(CHAT_CALL | SIGNED, reasoning_content="Mine.")

    def test_state_fields_of_the_inner_object_are_returned_inside_it(self) -> None:
        message = assistant(None, "a")
        extras = {"function": {"thought": "t", "name": "g"}, "name": "g", "status": "done"}

        give_back(message, LoggedAnswer("", {"a": extras}))

        function = {"name": "f", "arguments": "{}", "thought": "t"}
        assert message == complete({**CHAT_CALL, "function": function})

    def test_a_message_is_from_the_answer_that_has_made_one_of_its_calls(self) -> None:
        assert is_from(assistant(None, "x", "b"), LOGGED)
        assert not is_from(assistant(None, "x"), LOGGED)

    def test_answers_that_may_have_lost_something_are_the_latest_with_calls(self) -> None:
        answers = [
            Answer(message, "")
            for message in (
                assistant(None, "a"),
                assistant("Hello"),
                assistant("Hello", tool_calls=None),
                complete(CHAT_CALL | SIGNED, reasoning_content="Hm."),
                complete(CHAT_CALL | SIGNED),
                complete(CHAT_CALL | SIGNED, CHAT_CALL, reasoning_content="Hm."),
            )
        ]

        assert lacking(answers, 32) == [answers[0], answers[4], answers[5]]
        assert lacking(answers, 2) == [answers[4], answers[5]]


CHAT = [user("One"), assistant(None, "a"), result("a"), assistant("Two"), user("Three")]


class TestFingerprints:
    def test_state_does_not_count(self) -> None:
        chat = copy.deepcopy(CHAT)
        chat[1]["reasoning_content"] = "Hm."
        chat[1]["tool_calls"][0] |= SIGNED
        chat[1]["tool_calls"][0]["function"]["thought"] = "t"

        assert prompt_fingerprint(chat) == prompt_fingerprint(CHAT)

    @pytest.mark.parametrize(
        "change",
        [
            lambda chat: chat[0].update(content="Two"),
            lambda chat: chat[0].update(role="developer"),
            lambda chat: chat[1].update(content=""),
            lambda chat: chat[1]["tool_calls"][0].update(id="b"),
            lambda chat: chat[1]["tool_calls"][0]["function"].update(name="g"),
            lambda chat: chat[1]["tool_calls"][0]["function"].update(arguments="[]"),
            lambda chat: chat[2].update(content="43"),
            lambda chat: chat[2].update(tool_call_id="b"),
            lambda chat: chat.pop(),
            lambda chat: chat.insert(0, {"role": "system", "content": "Be brief."}),
        ],
        ids=["text", "role", "answer", "call", "function", "arguments", "result", "result's call", "less", "more"],
    )
    def test_everything_else_does(self, change: Any) -> None:
        chat = copy.deepcopy(CHAT)
        change(chat)

        assert prompt_fingerprint(chat) != prompt_fingerprint(CHAT)

    def test_a_prefix_has_the_fingerprint_of_the_prompt_that_it_was(self) -> None:
        found = prefix_fingerprints(CHAT, (0, 1, 3))

        assert found == [prompt_fingerprint(CHAT[:end]) for end in (0, 1, 3)]

    def test_any_messages_of_a_native_job_have_a_fingerprint(self) -> None:
        assert prompt_fingerprint([{"role": "assistant", "tool_calls": ["none", {"id": "a"}]}, {}])
