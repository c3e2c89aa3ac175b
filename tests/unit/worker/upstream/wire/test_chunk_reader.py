"""Test the chunks of many upstreams, as deltas of one form."""

from typing import Any

import pytest

from shared.model.bounds import EXTRA_FIELDS, REASON_CHARS, UNSAID_PIECES
from shared.model.errors import ProviderGarbage, ProviderRefused
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.chunk_reader import ChunkReader


def refuse(error: object) -> ProviderRefused:
    said = error if isinstance(error, dict) else {"message": error}
    return ProviderRefused(str(said["message"]))


def reader() -> ChunkReader:
    return ChunkReader("s", refuse)


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [fields]}


def delta(**fields: Any) -> dict[str, Any]:
    return choice(index=0, delta=fields, finish_reason=None)


def deltas(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all deltas of an answer."""
    chunk_reader = reader()
    read = [chunk_reader.read(chunk) for chunk in chunks]
    return [each for chunk in (*read, *chunk_reader.end()) for each in chunk.deltas]


STOP = choice(index=0, delta={}, finish_reason="stop")
USAGE = {"prompt_tokens": 1, "completion_tokens": 2}
MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "content": "Hello",
    "reasoning": "Hm.",
    "tool_calls": [{"id": "c1", "function": {"name": "a", "arguments": "{}"}}],
}


class TestDeltas:
    def test_a_text_is_passed_on(self) -> None:
        assert reader().read(delta(role="assistant", content=" Paris")) == Chunk(deltas=({"content": " Paris"},))

    def test_further_fields_are_passed_on_as_they_came(self) -> None:
        said = {"content": "a", "x_vendor": {"any": [1]}, "annotations": [{"type": "url_citation"}]}
        assert deltas(delta(**said)) == [said]

    def test_empty_fields_of_a_delta_are_left_out(self) -> None:
        empty: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None, "tool_calls": [], "audio": {}}
        assert deltas(delta(**empty), delta(content=[]), delta(function_call={})) == []

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
    def test_thoughts_have_one_name(self, name: str) -> None:
        assert deltas(delta(**{name: "Hm."})) == [{"reasoning_content": "Hm."}]

    def test_reasoning_under_two_names_is_read_once(self) -> None:
        assert deltas(delta(reasoning="Hm.", reasoning_content="Hm.")) == [{"reasoning_content": "Hm."}]

    def test_thoughts_stand_before_the_text(self) -> None:
        assert deltas(delta(content="Yes.", reasoning_content="Hm.")) == [
            {"reasoning_content": "Hm.", "content": "Yes."}
        ]

    def test_a_list_of_parts_is_text_thoughts_and_refusal(self) -> None:
        parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "N"}, "o", None, {"type": "image"}]
        assert deltas(delta(content=[*parts, {"type": "refusal", "refusal": "!"}])) == [
            {"reasoning_content": "Hm.", "content": "No", "content_parts": [{"type": "image"}], "refusal": "!"}
        ]

    def test_the_order_of_parts_is_the_order_of_deltas(self) -> None:
        parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}, {"type": "text", "text": "c"}]
        assert deltas(delta(content=parts)) == [{"content": "a"}, {"reasoning_content": "b", "content": "c"}]

    def test_half_a_character_waits_and_is_replaced_at_the_end(self) -> None:
        assert deltas(delta(content="\ud83d"), delta(content="\ude00!")) == [{"content": "😀!"}]
        assert deltas(delta(content="a\ud83d"), STOP) == [{"content": "a"}, {"content": "\ufffd"}]

    def test_half_a_character_is_left_out_if_the_stream_breaks_off(self) -> None:
        assert deltas(delta(content="a\ud83d")) == [{"content": "a"}]

    def test_halves_of_texts_and_of_thoughts_do_not_meet(self) -> None:
        said = deltas(delta(content="\ud83d"), delta(reasoning_content="x"), delta(content="\ude00"))
        assert said == [{"reasoning_content": "x"}, {"content": "😀"}]

    def test_a_delta_names_its_choice_if_it_is_not_the_first(self) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 2, "delta": {"content": "é\ud83d"}}]}
        said = deltas(chunk, choice(index=2, delta={}, finish_reason="stop"))
        assert said == [{"content": "a"}, {"content": "é", "index": 2}, {"content": "\ufffd", "index": 2}]
        assert deltas(choice(index=1, delta={"content": "a"})) == [{"content": "a", "index": 1}]

    def test_a_delta_cannot_use_tailraces_own_names(self) -> None:
        own = {"index": 7, "logprobs": "none", "choice_extra": {"a": 1}, "chunk_extra": {"a": 1}, "content_parts": [1]}
        assert deltas(delta(content="a", **own)) == [{"content": "a"}]

    def test_logprobs_travel_with_their_delta(self) -> None:
        logprobs = {"content": [{"token": "a", "logprob": float("-inf")}], "refusal": None}
        said = deltas(choice(index=0, delta={"content": "a"}, logprobs=logprobs))
        assert said == [{"content": "a", "logprobs": {"content": [{"token": "a", "logprob": None}], "refusal": None}}]

    @pytest.mark.parametrize("logprobs", [None, {}, {"content": [], "refusal": None}, "none"])
    def test_empty_logprobs_are_left_out(self, logprobs: object) -> None:
        assert deltas(choice(index=0, delta={}, logprobs=logprobs)) == []


class TestToolCalls:
    def test_a_call_without_an_id_gets_one_of_this_answer(self) -> None:
        fragments = [{"function": {"name": "a", "arguments": {"x": 1}}}, {"function": {"name": "b"}}]
        said = deltas(delta(tool_calls=fragments))
        assert [each["tool_calls"][0]["id"] for each in said] == ["call_s0", "call_s1"]
        assert said[0]["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"x":1}'}

    def test_each_fragment_is_a_delta_of_its_own(self) -> None:
        calls = [{"index": n, "id": f"c{n}", "function": {"name": "a", "arguments": ""}} for n in (0, 1)]
        said = deltas(choice(index=1, delta={"content": "a", "tool_calls": calls}, stop_reason="x"))
        assert [[call["index"] for call in each["tool_calls"]] for each in said] == [[0], [1]]
        assert [each.get("content") for each in said] == ["a", None]
        assert [each.get("choice_extra") for each in said] == [None, {"stop_reason": "x"}]
        assert [each["index"] for each in said] == [1, 1]

    def test_a_legacy_function_call_is_a_call_unless_calls_stand_beside_it(self) -> None:
        legacy = {"name": "a", "arguments": "{}"}
        assert deltas(delta(function_call=legacy))[0]["tool_calls"][0]["function"] == legacy
        both = deltas(delta(function_call=legacy, tool_calls=[{"id": "c1", "function": legacy}]))
        assert [each["id"] for each in both[0]["tool_calls"]] == ["c1"]

    def test_the_rest_of_a_call_comes_with_the_finish_reason(self) -> None:
        said = deltas(delta(tool_calls=[{"id": "c", "function": {"name": "a", "arguments": "\ud83d"}}]), STOP)
        assert said[1] == {"tool_calls": [{"index": 0, "function": {"arguments": "\ufffd"}}]}

    @pytest.mark.parametrize(("reason", "fails"), [("tool_calls", True), ("stop", True), ("length", False)])
    def test_a_call_without_a_name_is_garbage_unless_the_answer_was_cut_off(self, reason: str, fails: bool) -> None:
        chunk_reader = reader()
        chunk_reader.read(delta(tool_calls=[{"id": "c", "function": {"arguments": "{}"}}]))
        end = choice(index=0, delta={}, finish_reason=reason)
        if fails:
            with pytest.raises(ProviderGarbage, match="without a name"):
                chunk_reader.read(end)
        else:
            assert chunk_reader.read(end).deltas == ()


class TestWholeMessages:
    def test_a_message_is_the_answer_if_no_delta_came(self) -> None:
        chunk_reader = reader()
        read = chunk_reader.read(choice(message=MESSAGE, finish_reason="stop"))
        assert read.finished == ((0, "stop"),)
        assert read.deltas[0] | {"tool_calls": None} == {
            "reasoning_content": "Hm.",
            "content": "Hello",
            "tool_calls": None,
        }
        assert chunk_reader.end() == ()

    def test_a_message_that_grows_is_its_last_state(self) -> None:
        grows = [choice(message={"content": text}) for text in ("He", "Hello")]
        assert deltas(*grows, choice(message=None, finish_reason="stop")) == [{"content": "Hello"}]
        assert deltas(*grows) == [{"content": "Hello"}]

    def test_messages_that_do_not_extend_each_other_are_pieces(self) -> None:
        pieces = [choice(message={"role": "assistant", "content": text}) for text in ("He", "llo", " you", "!")]
        assert deltas(*pieces, STOP) == [{"content": "He"}, {"content": "llo"}, {"content": " you"}, {"content": "!"}]

    def test_a_message_may_have_no_text(self) -> None:
        audio = {"id": "a1", "data": "UklGRg=="}
        whole = choice(message={"role": "assistant", "content": None, "audio": audio}, finish_reason="stop")
        assert deltas(whole) == [{"audio": audio}]

    def test_an_empty_message_removes_no_text(self) -> None:
        empty = choice(message={"role": "assistant", "content": ""}, finish_reason="stop")
        assert deltas(choice(message={"content": "Hello"}), empty) == [{"content": "Hello"}]
        assert deltas(choice(message={"content": "Hello"}), choice(message={}, finish_reason="stop")) == [
            {"content": "Hello"}
        ]
        assert deltas(choice(message={"content": ""}), choice(message={"content": "Hello"}), STOP) == [
            {"content": "Hello"}
        ]

    def test_deltas_count_if_both_come(self) -> None:
        both = [
            choice(delta={"content": "He"}, message={"content": "He"}),
            choice(delta={"content": "llo"}, message={"content": "Hello"}, finish_reason="stop"),
        ]
        assert deltas(*both) == [{"content": "He"}, {"content": "llo"}]

    def test_the_text_of_a_legacy_completion_is_a_delta(self) -> None:
        assert deltas(choice(text="Hel"), choice(text="lo", finish_reason="stop")) == [
            {"content": "Hel"},
            {"content": "lo"},
        ]


class TestFurtherFieldsBesideTheDelta:
    def test_they_travel_with_the_next_delta_once(self) -> None:
        said = {"system_fingerprint": "fp", "citations": ["u"], "service_tier": None, "obfuscation": "xxx"}
        chunks = [{**delta(role="assistant"), **said}, {**delta(content="a"), **said}, {**delta(content="b"), **said}]
        extra = {"system_fingerprint": "fp", "citations": ["u"]}
        assert deltas(*chunks) == [{"content": "a", "chunk_extra": extra}, {"content": "b"}]

    def test_a_changed_extra_field_is_sent_again(self) -> None:
        chunks = [{**delta(content=text), "citations": [text]} for text in "ab"]
        assert [each["chunk_extra"]["citations"] for each in deltas(*chunks)] == [["a"], ["b"]]

    def test_a_choice_has_its_own(self) -> None:
        first = choice(index=1, delta={"content": "a"}, content_filter_results={"hate": {"filtered": False}})
        last = choice(index=1, delta={}, finish_reason="stop", stop_reason="END", matched_stop=None)
        assert deltas(first, first, last) == [
            {"content": "a", "choice_extra": {"content_filter_results": {"hate": {"filtered": False}}}, "index": 1},
            {"content": "a", "index": 1},
            {"choice_extra": {"stop_reason": "END"}, "index": 1},
        ]

    def test_they_wait_for_a_delta_of_their_choice(self) -> None:
        first = choice(index=0, delta={"role": "assistant"}, content_filter_results={})
        assert deltas(first, delta(content="a")) == [{"content": "a", "choice_extra": {"content_filter_results": {}}}]

    def test_pieces_add_up_and_none_is_taken_for_a_repetition(self) -> None:
        sent = [({"content": "ha"}, [7]), ({"content": "ha"}, [7]), ({}, [8]), ({"content": "!"}, [9])]
        chunks = [choice(index=0, delta=said, token_ids=ids) for said, ids in sent]
        assert [each["choice_extra"]["token_ids"] for each in deltas(*chunks)] == [[7], [7], [8, 9]]

    @pytest.mark.parametrize("odd", [7, "text", {}, [], None], ids=str)
    def test_pieces_that_are_not_a_list_are_left_out(self, odd: object) -> None:
        assert deltas(choice(index=0, delta={"content": "a"}, token_ids=odd)) == [{"content": "a"}]

    def test_an_extra_field_after_the_last_delta_is_its_own_delta(self) -> None:
        assert deltas(delta(content="a"), STOP, {"choices": [], "citations": ["u"]}) == [
            {"content": "a"},
            {"chunk_extra": {"citations": ["u"]}},
        ]

    def test_an_extra_field_without_an_answer_is_left_out(self) -> None:
        assert deltas({"choices": [], "citations": ["u"]}) == []

    def test_token_ids_without_a_delta_are_bounded(self) -> None:
        chunk_reader = reader()
        ids = choice(index=0, delta={}, token_ids=[1] * 1024)
        for _ in range(UNSAID_PIECES // 1024):
            assert chunk_reader.read(ids).deltas == ()
        with pytest.raises(ProviderGarbage, match="65536 token_ids without a delta"):
            chunk_reader.read(ids)

    @pytest.mark.parametrize("beside", ["chunk", "choice"])
    def test_their_names_are_bounded(self, beside: str) -> None:
        chunk_reader = reader()

        def chunk(number: int) -> dict[str, Any]:
            entry, extra = {"index": 0, "delta": {"content": "a"}}, {f"x{number}": number}
            return {"choices": [entry], **extra} if beside == "chunk" else {"choices": [{**entry, **extra}]}

        for number in range(EXTRA_FIELDS):
            chunk_reader.read(chunk(number))
        with pytest.raises(ProviderGarbage, match="more than 256 further fields"):
            chunk_reader.read(chunk(EXTRA_FIELDS))

    def test_numbers_that_json_has_no_word_for_are_null(self) -> None:
        assert deltas({**delta(content="a"), "cost": float("nan")})[0]["chunk_extra"] == {"cost": None}


class TestFinishReasons:
    def test_a_reason_belongs_to_its_choice(self) -> None:
        assert reader().read(choice(index=3, delta=None, finish_reason="length")).finished == ((3, "length"),)

    @pytest.mark.parametrize("reason", [None, ""])
    def test_an_empty_finish_reason_is_ignored(self, reason: object) -> None:
        assert reader().read(choice(index=0, delta={}, finish_reason=reason)).finished == ()

    def test_an_upstreams_own_word_is_kept_beside_openais(self) -> None:
        read = reader().read(choice(index=0, delta={}, finish_reason="MAX_TOKENS"))
        assert read == Chunk(({"choice_extra": {"native_finish_reason": "MAX_TOKENS"}},), ((0, "length"),))

    def test_a_legacy_word_is_openais_own(self) -> None:
        read = reader().read(choice(index=0, delta={}, finish_reason="function_call"))
        assert read == Chunk((), ((0, "tool_calls"),))

    def test_a_reason_that_names_a_failure_fails(self) -> None:
        with pytest.raises(ProviderRefused, match=r"broke off \(finish reason error\)"):
            reader().read(choice(index=0, delta={"content": "a"}, finish_reason="error"))

    def test_an_error_of_a_choice_fails_with_its_own_message(self) -> None:
        error = {"code": 502, "message": "Provider returned error"}
        with pytest.raises(ProviderRefused, match="Provider returned error"):
            reader().read(choice(index=0, delta={"content": ""}, finish_reason="error", error=error))


class TestUsage:
    def test_usage_comes_with_or_without_choices(self) -> None:
        assert reader().read({"choices": [], "usage": USAGE}).usage == USAGE
        read = reader().read({**delta(content="a"), "usage": USAGE})
        assert read == Chunk(deltas=({"content": "a"},), usage=USAGE)

    def test_usage_may_stand_in_a_choice(self) -> None:
        assert reader().read(choice(index=0, delta={}, finish_reason="stop", usage=USAGE)).usage == USAGE

    @pytest.mark.parametrize("usage", [None, {}, "many", 12])
    def test_empty_usage_is_ignored(self, usage: object) -> None:
        assert reader().read({"choices": [], "usage": usage}).usage is None


class TestChunks:
    @pytest.mark.parametrize("chunk", [{}, {"choices": None}, {"choices": []}, {"object": "chat.completion.chunk"}])
    def test_a_chunk_without_choices_is_empty(self, chunk: object) -> None:
        chunk_reader = reader()
        assert chunk_reader.read(chunk) == Chunk()
        assert not chunk_reader.understood
        chunk_reader.read(delta(content="a"))
        assert chunk_reader.understood

    def test_choices_without_an_index_are_counted(self) -> None:
        read = reader().read({"choices": [{"message": {"content": text}, "finish_reason": "stop"} for text in "AB"]})
        assert read.deltas == ({"content": "A"}, {"content": "B", "index": 1})
        assert read.finished == ((0, "stop"), (1, "stop"))

    @pytest.mark.parametrize(("index", "number"), [(None, 0), ("0", 0), ("1", 1), (1.0, 1)])
    def test_a_choices_index_counts_as_a_number(self, index: object, number: int) -> None:
        assert reader().read(choice(index=index, delta={}, finish_reason="stop")).finished == ((number, "stop"),)

    @pytest.mark.parametrize(
        ("chunk", "sentence"),
        [
            (["nonsense"], "a chunk that is not an object"),
            ("nonsense", "a chunk that is not an object"),
            (None, "a chunk that is not an object"),
            ({"choices": {"index": 0}}, "choices that are not a list"),
            ({"choices": ["a"]}, "a choice that is not an object"),
            (choice(index="one", delta={}), "index is not a number"),
            (choice(index=True, delta={}), "index is not a number"),
            (choice(index=-1, delta={}), "index is not a number"),
            (choice(index=4_000_000_000, delta={}), "index is not a number below 128"),
            (choice(index=4e9, delta={}), "index is not a number below 128"),
            (choice(index={"a": 1}, delta={}), "index is not a number"),
            (choice(index=0, delta="text"), "a delta that is not an object"),
            (choice(index=0, delta={}, finish_reason={"why": "stop"}), "a finish reason that is not a string"),
            (
                choice(index=0, delta={}, finish_reason="x" * (REASON_CHARS + 1)),
                "a finish reason that is not a string of up to 64",
            ),
        ],
    )
    def test_a_malformed_chunk_is_garbage(self, chunk: object, sentence: str) -> None:
        with pytest.raises(ProviderGarbage, match=sentence):
            reader().read(chunk)
