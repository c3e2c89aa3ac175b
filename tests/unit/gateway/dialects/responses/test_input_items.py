"""Test messages of a chat as the items that they were."""

from typing import Any

import pytest

from gateway.dialects.responses.input_items import items_of
from gateway.dialects.responses.items import messages_of
from gateway.dialects.responses.tools import ToolNames
from tests.unit.gateway.dialects.responses.test_items import thought
from tests.unit.gateway.dialects.responses.test_request import BARE, CALL, JOB, user
from tests.unit.gateway.dialects.responses.test_tools import custom, function, namespace


def test_messages_become_the_items_that_they_were() -> None:
    image = {"type": "input_image", "image_url": "http://x.test/a.png", "detail": "low"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:,"}
    said: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image, file]},
        thought("Hm."),
        {"role": "assistant", "content": "I look."},
        CALL | {"extra_content": {"a": 1}},
        {"type": "function_call_output", "call_id": "a", "output": "42"},
    ]

    items = items_of(messages_of(said), JOB)

    assert [item["id"] for item in items] == [
        f"msg_{BARE}_in_0",
        f"rs_{BARE}_in_1",
        f"msg_{BARE}_in_2",
        f"fc_{BARE}_in_3",
        f"fco_{BARE}_in_4",
    ]
    assert items[0]["content"] == [{"type": "input_text", "text": "What is this?"}, image, file]
    assert items[1]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert items[2]["content"] == [{"type": "output_text", "text": "I look.", "annotations": []}]
    assert items[3] == CALL | {"id": f"fc_{BARE}_in_3", "status": "completed", "extra_content": {"a": 1}}
    assert items[4]["output"] == "42"
    assert messages_of(items) == messages_of(said)


def test_calls_are_shown_under_the_names_of_their_tools() -> None:
    names = ToolNames.of({"tools": [function("run"), custom("patch"), namespace("a", function("run"), custom("ask"))]})
    said: list[dict[str, Any]] = [
        CALL | {"name": "run", "namespace": "a"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "x\ny"},
        {"type": "custom_tool_call", "call_id": "c", "name": "ask", "namespace": "a", "input": ""},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "3"},
    ]
    messages = messages_of(said, names=names)

    items = items_of(messages, JOB, names)

    shown = [{name: value for name, value in item.items() if name not in ("id", "status")} for item in items]
    assert shown == said
    assert messages_of(items, names=names) == messages
    assert items[1]["id"] == f"ctc_{BARE}_in_1"
    assert items[4]["id"] == f"ctco_{BARE}_in_4"


@pytest.mark.parametrize("arguments", ["", "7", '{"input": 7}', "[" * 100_000])
def test_arguments_of_a_custom_tool_that_are_something_else_are_shown_as_they_are(arguments: str) -> None:
    names = ToolNames.of({"tools": [custom("f")]})
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}

    (item,) = items_of([{"role": "assistant", "content": None, "tool_calls": [call]}], JOB, names)

    assert item["input"] == arguments


def test_any_messages_of_a_native_job_can_be_listed() -> None:
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
