"""Test items in any order: they become a chat that strict upstreams accept, and nothing is lost."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.responses.items import messages_of
from gateway.dialects.responses.tool_results import results_behind_calls

Item = dict[str, Any]
Message = dict[str, Any]


@st.composite
def conversations(draw: st.DrawFn) -> list[Item]:
    """Generate items in any order in which each call has one result, which comes later. All texts differ."""
    items: list[Item] = []
    waiting: list[str] = []
    job = ""
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["user", "developer", "assistant", "reasoning", "call", "custom", "result"]))
        job = draw(st.sampled_from([job, "0" * 26, "1" * 26, ""]))
        if kind in ("user", "developer", "assistant"):
            items.append({"role": kind, "content": f"<{kind} {number}>", "id": f"msg_{job}_{number}"})
        elif kind == "reasoning":
            text = {"type": "reasoning_text", "text": f"<thought {number}>"}
            items.append({"type": "reasoning", "content": [text], "id": f"rs_{job}_{number}"})
        elif kind == "result":
            if waiting:
                items.append(_result(waiting.pop(draw(st.integers(0, len(waiting) - 1)))))
        else:
            waiting.append(f"call {number}")
            items.append(_call(waiting[-1], kind, f"{job}_{number}"))
    return [*items, *(_result(call_id) for call_id in draw(st.permutations(waiting)))]


def _call(call_id: str, kind: str, item_id: str) -> Item:
    if kind == "custom":
        return {"type": "custom_tool_call", "call_id": call_id, "name": "f", "input": "x", "id": f"ctc_{item_id}"}
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", "id": f"fc_{item_id}"}


def _result(call_id: str) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": f"<result of {call_id}>"}


def calls_of(message: Message) -> list[str]:
    return [call["id"] for call in message.get("tool_calls", ())]


def texts(messages: list[Message], role: str, field: str = "content") -> str:
    return "".join(message.get(field) or "" for message in messages if message["role"] == role)


@given(conversations())
def test_each_call_has_its_result_directly_behind_it(items: list[Item]) -> None:
    messages = messages_of(items)

    for at, message in enumerate(messages):
        calls = calls_of(message)
        behind = messages[at + 1 : at + 1 + len(calls)]
        assert [each.get("tool_call_id") for each in behind] == calls
        assert all(each["content"] == f"<result of {each['tool_call_id']}>" for each in behind)
    assert sum(len(calls_of(message)) for message in messages) == sum(m["role"] == "tool" for m in messages)


@given(conversations())
def test_no_text_and_no_call_is_lost_or_changes_its_order(items: list[Item]) -> None:
    messages = messages_of(items)

    for role in ("user", "developer", "assistant"):
        assert texts(messages, role) == "".join(item["content"] for item in items if item.get("role") == role)
    made = [item["call_id"] for item in items if str(item.get("type")).endswith("_call")]
    assert sorted(call for message in messages for call in calls_of(message)) == sorted(made)


@given(conversations())
def test_thoughts_that_led_to_something_go_back_once(items: list[Item]) -> None:
    thoughts = texts(messages_of(items), "assistant", "reasoning_content")

    for item, following in pairwise(items):
        if item.get("type") == "reasoning":
            text = item["content"][0]["text"]
            led = following.get("role") == "assistant" or str(following.get("type")).endswith("_call")
            assert thoughts.count(text) == 1 or (not led and thoughts.count(text) == 0)


@given(conversations(), st.data())
def test_a_split_conversation_becomes_the_same_chat(items: list[Item], data: st.DataObject) -> None:
    """Split a conversation: with `previous_response_id`, the items before a caller's item are already a chat."""
    bare = [{name: value for name, value in item.items() if name != "id"} for item in items]
    callers = [at for at, item in enumerate(bare) if item.get("role") in ("user", "developer")]
    at = data.draw(st.sampled_from([0, *callers, len(bare)]))

    assert messages_of(bare[at:], messages_of(bare[:at])) == messages_of(bare)


@given(conversations())
def test_a_chat_in_order_stays_so(items: list[Item]) -> None:
    messages = messages_of(items)

    assert results_behind_calls(messages) == messages
