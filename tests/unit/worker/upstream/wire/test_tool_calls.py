"""Test tool calls in the fragments of many upstreams."""

from typing import Any

import pytest

from shared.model.bounds import EVENT_BYTES, TOOL_CALLS
from shared.model.errors import ProviderGarbage
from worker.upstream.wire.tool_calls import ToolCallReader

Fragment = dict[str, Any]


def reader() -> ToolCallReader:
    numbers = iter(range(10_000))
    return ToolCallReader(lambda: f"made_{next(numbers)}")


def read(*fragments: Any) -> list[Fragment]:
    """Return the canonical fragments of an answer that sends these, one a delta."""
    calls = reader()
    return [each for fragment in fragments for each in calls.read([fragment])] + calls.end(cut_off=False)


def folded(*fragments: Any) -> list[tuple[str, str, str]]:
    """Return the calls of an answer: id, name, arguments."""
    calls: list[tuple[str, str, str]] = []
    for each in read(*fragments):
        body = each.get("function", {})
        if "id" in each:
            assert each["index"] == len(calls)
            calls.append((each["id"], body["name"], body["arguments"]))
        else:
            call_id, name, arguments = calls[each["index"]]
            calls[each["index"]] = (call_id, name, arguments + body.get("arguments", ""))
    return calls


def call(name: str | None = None, arguments: Any = None, **fields: Any) -> Fragment:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value is not None}}


def test_openais_fragments_have_the_form_already() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "now", "arguments": ""}}
    then = {"index": 0, "function": {"arguments": '{"x":1}'}}
    assert read(first, then) == [first, then]


class TestWhichCallAFragmentBelongsTo:
    def test_calls_may_take_turns(self) -> None:
        said = (
            call("a", "", index=0, id="c1"),
            call("b", "", index=1, id="c2"),
            call(None, "1", index=0),
            call(None, "2", index=1),
        )
        assert folded(*said) == [("c1", "a", "1"), ("c2", "b", "2")]

    def test_a_new_id_begins_a_call_at_the_same_index(self) -> None:
        said = call("a", '{"x":1}', index=0, id="c1"), call("b", '{"y":2}', index=0, id="c2")
        assert folded(*said) == [("c1", "a", '{"x":1}'), ("c2", "b", '{"y":2}')]

    def test_an_id_at_the_same_index_finds_its_earlier_call(self) -> None:
        said = call("a", "1", index=0, id="c1"), call("b", "2", index=0, id="c2"), call(None, "3", index=0, id="c1")
        assert folded(*said) == [("c1", "a", "13"), ("c2", "b", "2")]

    @pytest.mark.parametrize("index", [{}, {"index": None}, {"index": True}, {"index": "x"}, {"index": 0.5}])
    def test_without_an_index_calls_are_counted(self, index: Fragment) -> None:
        said = (
            call("a", "", **index, id="c1"),
            call(None, "1", **index),
            call("b", "", **index, id="c2"),
            call(None, "2", **index),
        )
        assert folded(*said) == [("c1", "a", "1"), ("c2", "b", "2")]

    @pytest.mark.parametrize("index", ["0", 0.0, 4_000_000_000, 7])
    def test_an_index_may_be_any_number(self, index: object) -> None:
        said = call("a", "", index=index, id="c1"), call(None, "1", index=index)
        assert folded(*said) == [("c1", "a", "1")]

    def test_an_id_may_be_repeated_with_each_fragment(self) -> None:
        said = call("a", "", id="c1"), call(None, "1", id="c1"), call("b", "2", id="c2"), call(None, "3", id="c1")
        assert folded(*said) == [("c1", "a", "13"), ("c2", "b", "2")]

    def test_a_name_may_be_repeated_with_each_fragment(self) -> None:
        said = call("a", '{"x"', index=0), call("a", ":1}", index=0), call("a", "", index=0)
        assert folded(*said) == [("made_0", "a", '{"x":1}')]

    def test_without_ids_a_complete_call_is_followed_by_another(self) -> None:
        said = call("a", '{"x":1}', index=0), call("a", '{"x":2}', index=0), call("b", "{}")
        assert folded(*said) == [("made_0", "a", '{"x":1}'), ("made_1", "a", '{"x":2}'), ("made_2", "b", "{}")]

    def test_without_ids_an_empty_object_completes_a_call_too(self) -> None:
        assert folded(call("a", {}), call("a", {})) == [("made_0", "a", "{}"), ("made_1", "a", "{}")]

    def test_arguments_that_only_end_like_an_object_are_not_complete(self) -> None:
        said = call("a", '{"x":{"y":1}', index=0), call("a", "}", index=0), call("a", '{"x":2}', index=0)
        assert folded(*said) == [("made_0", "a", '{"x":{"y":1}}'), ("made_1", "a", '{"x":2}')]

    def test_an_id_that_comes_late_belongs_to_its_call(self) -> None:
        assert folded(call("a", "1", index=0), call(None, "2", index=0, id="c1")) == [("made_0", "a", "12")]
        assert folded(call(None, "1", index=0), call("a", "2", index=0, id="c1")) == [("c1", "a", "12")]

    def test_a_repeated_id_belongs_to_the_first_index(self) -> None:
        said = call("a", "1", index=0, id="c"), call("b", "2", index=1, id="c"), call(None, "3", index=1, id="c")
        assert folded(*said) == [("c", "a", "1"), ("made_0", "b", "23")]


class TestWhenACallIsAnnounced:
    @pytest.mark.parametrize("name", [None, ""])
    def test_fragments_wait_for_the_name(self, name: str | None) -> None:
        fragments = read(call(name, '{"a"', index=0, id="c1", x=1), call("now", ":1}", index=0))
        about = {"name": "now", "arguments": '{"a":1}'}
        assert fragments == [{"index": 0, "id": "c1", "type": "function", "function": about, "x": 1}]

    def test_numbers_follow_the_announcements(self) -> None:
        said = call(None, "1", index=0, id="c1"), call("b", "2", index=1, id="c2"), call("a", "", index=0)
        assert folded(*said) == [("c2", "b", "2"), ("c1", "a", "1")]

    @pytest.mark.parametrize("call_id", [None, "", 7])
    def test_a_missing_id_is_made_up(self, call_id: object) -> None:
        assert folded(call("a", "{}", index=0, id=call_id)) == [("made_0", "a", "{}")]

    def test_a_call_without_a_name_is_garbage(self) -> None:
        with pytest.raises(ProviderGarbage, match="a tool call without a name"):
            read(call(None, "{}", index=0, id="c1"))

    def test_half_a_call_of_an_answer_that_was_cut_off_is_left_out(self) -> None:
        calls = reader()
        assert calls.read([call(None, "{}", index=0, id="c1")]) == []
        assert calls.end(cut_off=True) == []


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "text"), [({"x": [1, "é"]}, '{"x":[1,"\\u00e9"]}'), ([1], "[1]"), (None, ""), (5, "5")]
    )
    def test_arguments_become_text(self, arguments: Any, text: str) -> None:
        assert folded(call("a", arguments, index=0, id="c1")) == [("c1", "a", text)]

    def test_an_object_that_is_repeated_is_one(self) -> None:
        said = call("a", {"x": 1}, index=0, id="c1"), call("a", {"x": 1}, index=0, id="c1")
        assert folded(*said) == [("c1", "a", '{"x":1}')]

    def test_half_a_character_waits_for_its_other_half(self) -> None:
        assert folded(call("a", "\ud83d", index=0), call(None, "\ude00", index=0)) == [("made_0", "a", "😀")]
        assert folded(call("a", "\ud83d", index=0)) == [("made_0", "a", "\ufffd")]

    def test_name_and_arguments_may_stand_in_the_call_itself(self) -> None:
        assert read({"id": "c1", "name": "a", "arguments": "{}", "x": 1}) == [
            {"index": 0, "id": "c1", "type": "function", "function": {"name": "a", "arguments": "{}"}, "x": 1}
        ]


class TestFurtherFields:
    def test_they_stay_on_their_fragment(self) -> None:
        signature = {"google": {"thought_signature": "s"}}
        said = read(call("a", "", index=0, id="c1", extra_content=signature), call(None, "1", index=0, note="n"))
        assert [each.get("extra_content") for each in said] == [signature, None]
        assert said[1] == {"index": 0, "function": {"arguments": "1"}, "note": "n"}

    def test_they_are_sent_once(self) -> None:
        said = [call("a", "", index=0, id="c1", x=1), call(None, "1", index=0, x=1), call(None, "", index=0, x=2)]
        assert [each.get("x") for each in read(*said)] == [1, None, 2]
        assert read(*said)[2] == {"index": 0, "x": 2}

    def test_the_functions_own_stay_in_it(self) -> None:
        inside = {"index": 0, "id": "c1", "function": {"name": "a", "arguments": "", "signature": "s"}}
        assert read(inside)[0]["function"] == {"name": "a", "arguments": "", "signature": "s"}
        later = {"index": 0, "function": {"signature": "t"}}
        assert read(inside, later)[1] == {"index": 0, "function": {"signature": "t"}}

    def test_a_fragment_without_news_is_left_out(self) -> None:
        assert len(read(call("a", "", index=0, id="c1"), call(None, None, index=0))) == 1


class TestOtherKinds:
    def test_a_custom_tool_has_an_input(self) -> None:
        first = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "shell", "input": "l"}}
        assert read(first, {"index": 0, "custom": {"input": "s"}}) == [
            first,
            {"index": 0, "custom": {"input": "s"}},
        ]

    def test_a_custom_tool_may_be_known_late(self) -> None:
        said = read({"index": 0, "id": "c1"}, {"index": 0, "custom": {"name": "shell", "input": "ls"}})
        assert said[0]["type"] == "custom"

    def test_a_legacy_function_call_is_a_call(self) -> None:
        calls = reader()
        said = calls.read_legacy({"name": "a", "arguments": ""}) + calls.read_legacy({"arguments": "{}"})
        assert [each["function"]["arguments"] for each in said] == ["", "{}"]
        assert said[0]["id"] == "made_0"


class TestGarbage:
    @pytest.mark.parametrize("fragments", [{}, "x", 5])
    def test_calls_that_are_not_a_list(self, fragments: object) -> None:
        with pytest.raises(ProviderGarbage, match="tool calls that are not a list"):
            reader().read(fragments)

    def test_a_call_that_is_not_an_object(self) -> None:
        with pytest.raises(ProviderGarbage, match="a tool call that is not an object"):
            reader().read(["x"])

    def test_a_function_that_is_not_an_object(self) -> None:
        with pytest.raises(ProviderGarbage, match="whose function is not an object"):
            reader().read([{"function": "x"}])

    def test_too_many_calls(self) -> None:
        with pytest.raises(ProviderGarbage, match="more than 1024 tool calls"):
            reader().read([call("a", "{}", id=f"c{n}") for n in range(TOOL_CALLS + 1)])

    def test_arguments_wait_for_a_name_only_up_to_a_bound(self) -> None:
        calls, half = reader(), call(None, "x" * (EVENT_BYTES // 2), index=0)
        assert calls.read([half]) == calls.read([half]) == []
        with pytest.raises(ProviderGarbage, match="without a name"):
            calls.read([half])

    def test_many_pieces_before_a_name_are_joined_once(self) -> None:
        calls = reader()
        assert calls.read([call(None, "ab", index=0)] * 50_000) == []
        (first,) = calls.read([call("f", "c", index=0)])
        assert first["function"]["arguments"] == "ab" * 50_000 + "c"

    def test_a_call_without_an_id_is_whole_whatever_space_follows_it(self) -> None:
        spaced = call("a", '{"x":1}'), call(None, ""), call(None, " \n"), call("a", '{"x":2}')
        assert [arguments.strip() for _, _, arguments in folded(*spaced)] == ['{"x":1}', '{"x":2}']
