"""Test the state of earlier answers in messages: it is found, and left out."""

from typing import Any

import pytest

from worker.upstream.wire.message_state import call_fields, has_thoughts, without_call_fields, without_thoughts

CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f"}, "custom": {}}
ODD: list[Any] = [None, "none", {}, {"tool_calls": None}, {"tool_calls": "none"}, {"tool_calls": ["none", {}]}]


def test_thoughts_are_found_and_left_out() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}

    assert has_thoughts([{"role": "user"}, message])
    assert without_thoughts(message) == {"role": "assistant", "content": "Hi"}


def test_further_fields_of_calls_are_found_and_left_out() -> None:
    message = {"role": "assistant", "tool_calls": [{**CALL, "extra_content": {}}, {**CALL, "signature": "s"}]}

    assert call_fields([{"role": "user"}, message]) == {"extra_content", "signature"}
    assert without_call_fields(message) == {"role": "assistant", "tool_calls": [CALL, CALL]}


@pytest.mark.parametrize("message", ODD, ids=str)
def test_messages_in_other_forms_stay_as_they_are(message: Any) -> None:
    assert not has_thoughts([message])
    assert call_fields([message]) == frozenset()
    assert without_thoughts(message) == message
    assert without_call_fields(message) == message


def test_messages_that_are_not_a_list_have_no_state() -> None:
    assert not has_thoughts("none")
    assert call_fields(None) == frozenset()
