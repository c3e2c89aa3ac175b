"""Test the output of a response: which items and parts a job's deltas become, and in which events."""

from typing import Any

import pytest

from shared.model.events import Event
from tests.unit.gateway.dialects.chat.chats import QUEUED, STARTED, completed, delta
from tests.unit.gateway.dialects.responses.test_stream import BARE, names, reported

REASONING, CALL = f"rs_{BARE}_0", f"fc_{BARE}_0"
SUMMARISED: dict[str, Any] = {"reasoning": {"summary": "auto"}}
GRAMMAR = {"type": "custom", "name": "patch", "description": "Change files."}
AGENTS = {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn"}]}
CITED = {"url": "https://example.test", "title": "An example", "start_index": 0, "end_index": 5}
CITATION = {"type": "url_citation", "url_citation": CITED}
FLAT = {"type": "url_citation", **CITED}


def call(number: int, call_id: str, name: str, arguments: str = "", **more: Any) -> dict[str, Any]:
    """Build the first fragment of a call."""
    function = {"name": name, "arguments": arguments}
    return {"index": number, "id": call_id, "type": "function", "function": function, **more}


def more(number: int, arguments: str) -> dict[str, Any]:
    """Build a later fragment."""
    return {"index": number, "function": {"arguments": arguments}}


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(fragments)}


def written(*deltas: dict[str, Any], end: Event | None = None, **asked: Any) -> list[dict[str, Any]]:
    """Return the events of an answer that consists of these deltas."""
    events = [delta(data, seq=seq) for seq, data in enumerate(deltas, 2)]
    return reported(QUEUED, STARTED, *events, end or completed("stop"), asked=asked)


def output(*deltas: dict[str, Any], end: Event | None = None, **asked: Any) -> list[dict[str, Any]]:
    """Return the output of such an answer."""
    found: list[dict[str, Any]] = written(*deltas, end=end, **asked)[-1]["response"]["output"]
    return found


def only(frames: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["type"] == f"response.{kind}"]


class TestWords:
    def test_reasoning_comes_as_an_item_of_its_own(self) -> None:
        frames = reported(
            delta({"reasoning_content": "Hm"}), delta({"reasoning_content": "."}), delta({"content": "Yes"})
        )

        assert names(frames)[2:] == [
            *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
            *("reasoning_text.done", "content_part.done", "output_item.done"),
            *("output_item.added", "content_part.added", "output_text.delta"),
        ]
        assert frames[8]["item"] == {
            "id": REASONING,
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        }

    def test_a_refusal_is_another_part_of_the_message(self) -> None:
        (message,) = output({"content": "Well, "}, {"refusal": "no"}, {"refusal": "."}, {"content": "But"})

        assert [part["type"] for part in message["content"]] == ["output_text", "refusal", "output_text"]
        assert message["content"][1] == {"type": "refusal", "refusal": "no."}

    def test_logprobs_are_given_with_their_text_and_again_with_the_whole(self) -> None:
        logprob = {"token": "Hel", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
        frames = reported(
            delta({"content": "Hel", "logprobs": {"content": [logprob], "refusal": None}}),
            delta({"content": "lo", "logprobs": {"content": None}}),
            delta({"content": "!", "logprobs": "none"}),
            completed("stop"),
        )

        assert [frame["logprobs"] for frame in frames if frame["type"].endswith("text.delta")] == [[logprob], [], []]
        assert frames[7]["logprobs"] == [logprob]
        assert frames[-1]["response"]["output"][0]["content"][0]["logprobs"] == [logprob]

    def test_no_half_of_a_character_gets_into_the_whole(self) -> None:
        (message,) = output({"content": "\ud83c"}, {"content": "\udf0a"})

        assert message["content"][0]["text"] == "\ufffd\ufffd"

    @pytest.mark.parametrize("text", ['"', "\\", '"}', '{"content":"', "\n\n", "data: [DONE]"])
    def test_awkward_texts_stay_unchanged(self, text: str) -> None:
        frames = reported(
            delta({"content": "a"}), delta({"content": text}), delta({"content": text}), completed("stop")
        )

        assert [frame["delta"] for frame in frames if frame["type"].endswith("delta")] == ["a", text, text]
        assert frames[-1]["response"]["output"][0]["content"][0]["text"] == "a" + text + text

    @pytest.mark.parametrize(
        "nothing",
        [{"audio": {"id": "a"}}, {"content_parts": [{"type": "image"}]}, {"content": "another choice's", "index": 1}],
        ids=str,
    )
    def test_a_field_without_a_place_in_a_response_is_left_out(self, nothing: dict[str, Any]) -> None:
        assert output(nothing) == []

    def test_the_tier_that_the_upstream_used_is_the_responses(self) -> None:
        frames = written({"content": "a"}, {"chunk_extra": {"service_tier": "priority"}, "index": 1}, {"content": "b"})

        assert [frame["response"]["service_tier"] for frame in frames if "response" in frame] == [
            None,
            None,
            "priority",
        ]


class TestSummary:
    def test_thoughts_are_a_summary_too_if_one_is_asked_for(self) -> None:
        frames = written({"reasoning_content": "Hm"}, {"reasoning_content": "."}, {"content": "Yes"}, **SUMMARISED)

        assert names(frames)[2:13] == [
            *("output_item.added", "content_part.added", "reasoning_summary_part.added"),
            *("reasoning_text.delta", "reasoning_summary_text.delta") * 2,
            *("reasoning_text.done", "content_part.done"),
            *("reasoning_summary_text.done", "reasoning_summary_part.done"),
        ]
        place = {"item_id": REASONING, "output_index": 0, "summary_index": 0}
        part = {"type": "summary_text", "text": "Hm."}
        assert frames[4] == frames[4] | place | {"part": part | {"text": ""}}
        assert frames[6] == frames[6] | place | {"delta": "Hm"}
        assert frames[11] == frames[11] | place | {"text": "Hm."}
        assert frames[12] == frames[12] | place | {"part": part}
        item = frames[-1]["response"]["output"][0]
        assert (item["summary"], item["content"]) == ([part], [{"type": "reasoning_text", "text": "Hm."}])
        assert frames[13] == frames[13] | {"item": item}

    def test_a_second_thought_has_a_summary_of_its_own(self) -> None:
        first, _, second = output(
            {"reasoning_content": "A"}, {"content": "b"}, {"reasoning_content": "C"}, **SUMMARISED
        )

        assert [each["text"] for item in (first, second) for each in item["summary"]] == ["A", "C"]


class TestCalls:
    def test_a_call_is_streamed_piece_by_piece(self) -> None:
        frames = written(calls(call(0, "a", "f")), calls(more(0, '{"x"')), calls(more(0, ":1}")))

        assert names(frames)[2:] == [
            *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done", "completed"),
        ]
        item = {"id": CALL, "type": "function_call", "status": "completed", "call_id": "a", "name": "f"}
        assert frames[2]["item"] == item | {"status": "in_progress", "arguments": ""}
        assert frames[3] == frames[3] | {"item_id": CALL, "output_index": 0, "delta": '{"x"'}
        assert frames[5] == frames[5] | {"item_id": CALL, "output_index": 0, "arguments": '{"x":1}'}
        assert frames[6]["item"] == item | {"arguments": '{"x":1}'}

    def test_calls_may_come_in_turns(self) -> None:
        items = output(calls(call(0, "a", "f", "1"), call(1, "b", "g")), calls(more(1, "2")), calls(more(0, "3")))

        assert [(item["call_id"], item["name"], item["arguments"]) for item in items] == [
            ("a", "f", "13"),
            ("b", "g", "2"),
        ]

    def test_text_after_a_call_is_another_message(self) -> None:
        items = output({"content": "One"}, calls(call(0, "a", "f", "{}")), {"content": "Two"})

        assert [item["type"] for item in items] == ["message", "function_call", "message"]

    def test_the_further_fields_of_a_call_are_fields_of_its_item(self) -> None:
        signature = {"google": {"thought_signature": "s"}}
        first = call(0, "a", "f", extra_content=signature, status="odd")
        first["function"]["strict"] = True
        frames = written(
            calls(first), calls({"index": 0, "cost": 1, "function": {"parsed": "x"}}), calls(more(0, "{}"))
        )

        (added,), (done,) = only(frames, "output_item.added"), only(frames, "output_item.done")
        assert added["item"]["extra_content"] == signature
        assert done["item"] == frames[-1]["response"]["output"][0]
        assert done["item"] == {
            "id": CALL,
            "type": "function_call",
            "status": "completed",
            "call_id": "a",
            "name": "f",
            "arguments": "{}",
            "extra_content": signature,
            "cost": 1,
            "function": {"strict": True, "parsed": "x"},
        }

    def test_a_function_of_a_namespace_has_the_name_and_namespace_of_its_declaration(self) -> None:
        (item,) = output(calls(call(0, "a", "spawn", "{}")), tools=[AGENTS])

        assert (item["name"], item["namespace"]) == ("spawn", "agents")

    def test_a_function_that_was_not_declared_is_called_by_its_own_name(self) -> None:
        (item,) = output(calls(call(0, "a", "other", "{}")), tools=[AGENTS])

        assert (item["type"], item["name"], "namespace" in item) == ("function_call", "other", False)


class TestCustomTools:
    def test_a_custom_tool_that_was_offered_as_a_function_returns_as_a_custom_call(self) -> None:
        frames = written(
            calls(call(0, "a", "patch", '{"inp')),
            calls(more(0, 'ut":"one\\')),
            calls(more(0, 'ntwo"}')),
            tools=[GRAMMAR],
        )

        assert names(frames)[2:] == [
            *("output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.delta"),
            *("custom_tool_call_input.done", "output_item.done", "completed"),
        ]
        item = {
            "id": f"ctc_{BARE}_0",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "a",
            "name": "patch",
        }
        assert frames[2]["item"] == item | {"status": "in_progress", "input": ""}
        assert [frame["delta"] for frame in frames[3:5]] == ["one", "\ntwo"]
        assert frames[5] == frames[5] | {"item_id": item["id"], "output_index": 0, "input": "one\ntwo"}
        assert frames[6]["item"] == item | {"input": "one\ntwo"}

    def test_arguments_that_are_not_an_object_with_an_input_are_the_input(self) -> None:
        assert output(calls(call(0, "a", "patch", '{"x":1}')), tools=[GRAMMAR])[0]["input"] == '{"x":1}'

    @pytest.mark.parametrize("tools", [[GRAMMAR], []], ids=["declared", "unknown"])
    def test_a_custom_call_of_the_upstream_itself_is_passed_on(self, tools: list[Any]) -> None:
        first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "patch", "input": '{"input":'}}
        (item,) = output(calls(first), calls({"index": 0, "custom": {"input": "1}"}}), tools=tools)

        assert (item["type"], item["input"]) == ("custom_tool_call", '{"input":1}')


class TestAnnotations:
    def test_a_citation_is_an_event_and_a_field_of_its_text(self) -> None:
        frames = written({"content": "Hello"}, {"annotations": [CITATION]}, {"annotations": [CITATION]})

        (added,) = only(frames, "output_text.annotation.added")
        place = {"item_id": f"msg_{BARE}_0", "output_index": 0, "content_index": 0}
        assert added == added | place | {"annotation_index": 0, "annotation": FLAT}
        assert only(frames, "content_part.done")[0]["part"]["annotations"] == [FLAT]
        assert frames[-1]["response"]["output"][0]["content"][0]["annotations"] == [FLAT]

    def test_a_citation_that_comes_before_its_text_waits_for_it(self) -> None:
        frames = written({"annotations": [CITATION]}, {"reasoning_content": "Hm."}, {"content": "Hello"})

        kinds = names(frames)
        assert kinds.index("output_text.annotation.added") == kinds.index("output_text.delta") - 1
        assert frames[-1]["response"]["output"][1]["content"][0]["annotations"] == [FLAT]


class TestLogsOfAnEarlierVersion:
    @pytest.mark.parametrize(
        "loose",
        [
            {"content": ["no", "text"], "reasoning": "Hm.", "annotations": "none", "logprobs": []},
            {"tool_calls": "none"},
            {"tool_calls": ["none", {}, {"index": "0"}]},
            calls({"index": 0, "function": None}, {"index": 0, "id": "a", "function": "f"}),
            calls({"index": 0, "function": {"arguments": "{}"}}, {"id": "a", "function": {"name": "f"}}),
            calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}),
        ],
        ids=str,
    )
    def test_a_delta_in_another_form_is_left_out(self, loose: dict[str, Any]) -> None:
        assert output(loose) == []

    def test_a_call_may_repeat_its_id_and_lack_its_arguments(self) -> None:
        first = {"index": 0, "id": "a", "function": {"name": "f"}}
        (item,) = output(calls(first), calls({**more(0, "{}"), "id": "a", "type": None}))

        assert (item["call_id"], item["arguments"]) == ("a", "{}")
