"""Test the place of a tool's result in a chat."""

import copy
from typing import Any

from gateway.dialects.responses.tool_results import results_behind_calls

USER = {"role": "user", "content": "Never mind."}
NOTE = {"role": "developer", "content": "It takes long."}


def asking(*call_ids: str, content: str | None = None) -> dict[str, Any]:
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in call_ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(call_id: Any, content: str = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_a_chat_in_order_stays_as_it_is() -> None:
    chat = [USER, asking("a", "b"), result("a"), result("b"), USER, asking("c"), result("c"), NOTE]
    before = copy.deepcopy(chat)

    assert results_behind_calls(chat) == chat
    assert chat == before


def test_messages_between_a_call_and_its_result_follow_the_result() -> None:
    assert results_behind_calls([asking("a"), USER, NOTE, result("a")]) == [asking("a"), result("a"), USER, NOTE]


def test_a_note_between_two_results_follows_both() -> None:
    chat = [asking("a", "b"), result("a"), NOTE, result("b"), USER]

    assert results_behind_calls(chat) == [asking("a", "b"), result("a"), result("b"), NOTE, USER]


def test_results_have_the_order_of_the_calls() -> None:
    assert results_behind_calls([asking("a", "b"), result("b"), result("a")]) == [
        asking("a", "b"),
        result("a"),
        result("b"),
    ]


def test_an_id_that_occurs_in_several_turns_belongs_to_the_latest_call_before_the_result() -> None:
    chat = [asking("0"), result("0", "one"), USER, asking("0"), NOTE, result("0", "two")]

    assert results_behind_calls(chat) == [
        asking("0"),
        result("0", "one"),
        USER,
        asking("0"),
        result("0", "two"),
        NOTE,
    ]


def test_a_call_that_was_never_answered_takes_no_later_result() -> None:
    chat = [asking("0"), USER, asking("0"), result("0")]

    assert results_behind_calls(chat) == chat


def test_the_same_id_twice_in_one_message_is_answered_in_order() -> None:
    chat = [asking("0", "0"), NOTE, result("0", "one"), result("0", "two")]

    assert results_behind_calls(chat) == [asking("0", "0"), result("0", "one"), result("0", "two"), NOTE]


def test_a_second_result_stands_behind_the_first() -> None:
    chat = [asking("a"), result("a", "one"), USER, result("a", "two")]

    assert results_behind_calls(chat) == [asking("a"), result("a", "one"), result("a", "two"), USER]


def test_a_result_without_a_call_and_a_call_without_a_result_stay() -> None:
    for chat in ([USER, result("a")], [asking("a"), USER], [result("a"), asking("a")], [result(None), result(7)]):
        assert results_behind_calls(chat) == chat


def test_any_messages_of_a_native_job_pass() -> None:
    chat: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": ["none", {"id": 7}, {"id": "a"}]},
        USER,
        result("a"),
    ]

    assert results_behind_calls(chat) == [*chat[:2], result("a"), USER]


def test_many_calls_of_one_id_take_linear_time() -> None:
    chat = [*(asking("0") for _ in range(20_000)), *(result("0") for _ in range(20_000))]

    assert len(results_behind_calls(chat)) == 40_000
