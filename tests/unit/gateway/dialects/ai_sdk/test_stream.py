"""Test the AI SDK's dialect: the parts that each event becomes for a page that chats."""

import json
from typing import Any

import pytest

from gateway.dialects.ai_sdk.stream import UiMessageStream
from shared.model.events import Event, EventId, EventType, encode_data

ERROR = {"type": "provider_error", "code": "provider_overloaded", "message": "Too busy.", "retryable": True}
QUEUED = Event(EventType.QUEUED, EventId(0, 1), b'{"job":"x","lane":"default","position":1}')
STARTED = Event(EventType.STARTED, EventId(1, 1), b'{"attempt":1,"model":"m","provider":"p","resumed_from":null}')
GAP = Event(EventType.GAP, None, b'{"requested":"3-9","earliest":"0-1","latest":"2-4"}')
ROLLBACK = Event(EventType.ROLLBACK, EventId(2, 1), b'{"to":"0-1","reason":"worker_lost"}')
CANCELLED = Event(EventType.CANCELLED, EventId(1, 9), encode_data({"error": ERROR | {"code": "cancelled"}}))
FAILED = Event(EventType.FAILED, EventId(1, 9), encode_data({"error": ERROR}))
EXPIRED = Event(EventType.EXPIRED, EventId(1, 9), encode_data({"error": ERROR | {"message": "Time is up."}}))
DONE = "[DONE]"
BEGIN = [{"type": "start", "messageId": "m1"}, {"type": "start-step"}]


def delta(**data: Any) -> Event:
    return Event(EventType.DELTA, EventId(1, 2), encode_data(data))


def completed(reason: str | None = "stop") -> Event:
    return Event(EventType.COMPLETED, EventId(1, 9), encode_data({"finish_reason": reason}))


def call(arguments: str | None = None, *, index: int | None = 0, **more: Any) -> Event:
    name = more.pop("name", None)
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fragment = {"index": index, "function": function, **more}
    return delta(tool_calls=[{key: value for key, value in fragment.items() if value is not None}])


def end(reason: str = "stop") -> list[Any]:
    return [{"type": "finish-step"}, {"type": "finish", "finishReason": reason}, DONE]


def words(kind: str, block: int, *texts: str, closed: bool = True) -> list[dict[str, Any]]:
    about = {"id": f"{kind}-{block}"}
    said = [{"type": f"{kind}-delta", **about, "delta": text} for text in texts]
    return [{"type": f"{kind}-start", **about}, *said, *([{"type": f"{kind}-end", **about}] if closed else [])]


def parts(frames: bytes) -> list[Any]:
    """Decode the data of frames; `[DONE]` stays as it is."""
    *each, rest = frames.split(b"\n\n")
    assert rest == b""
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in each)
    payloads = [frame.removeprefix(b"data: ") for frame in each]
    return [DONE if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def said(*events: Event) -> list[Any]:
    stream = UiMessageStream("m1")
    return parts(b"".join(map(stream.translate, events)))


class TestWords:
    def test_a_plain_answer_is_one_message_with_one_step_and_one_text(self) -> None:
        answer = said(QUEUED, STARTED, delta(content="Hel"), delta(content="lo"), completed())

        assert answer == [*BEGIN, *words("text", 1, "Hel", "lo"), *end()]

    def test_reasoning_is_a_block_of_its_own_before_the_text(self) -> None:
        answer = said(delta(reasoning_content="Hm"), delta(reasoning_content="m."), delta(content="Yes."), completed())

        assert answer == [*BEGIN, *words("reasoning", 1, "Hm", "m."), *words("text", 2, "Yes."), *end()]

    def test_reasoning_and_text_in_one_delta_are_two_blocks(self) -> None:
        answer = said(delta(content="Yes.", reasoning_content="Hm."), completed())

        assert answer == [*BEGIN, *words("reasoning", 1, "Hm."), *words("text", 2, "Yes."), *end()]

    def test_each_change_between_them_opens_another_block(self) -> None:
        answer = said(
            delta(content="a"), delta(reasoning_content="b"), delta(content="c"), delta(content="d"), completed()
        )

        assert answer[2:-3] == [*words("text", 1, "a"), *words("reasoning", 2, "b"), *words("text", 3, "c", "d")]

    def test_a_refusal_is_text_of_the_answer(self) -> None:
        assert said(delta(refusal="No."), completed())[2:-3] == words("text", 1, "No.")

    @pytest.mark.parametrize("data", [{}, {"content": ""}, {"content": None}, {"role": "assistant"}, {"content": [1]}])
    def test_a_delta_without_text_opens_no_part(self, data: dict[str, Any]) -> None:
        stream = UiMessageStream("m1")

        assert stream.translate(delta(**data)) == b""
        assert not stream.shown

    def test_only_the_first_choice_is_shown(self) -> None:
        assert said(delta(content="a"), delta(content="b", index=1), completed())[2:-3] == words("text", 1, "a")

    @pytest.mark.parametrize(
        "text", ['say "hi"', "a\n\nb", "data: [DONE]\n\n", "\u2028\u2029", "\\", 'x","y":"z', "naïve 🌊"]
    )
    def test_text_that_looks_like_the_protocol_survives(self, text: str) -> None:
        answer = said(delta(content="a"), delta(content=text), completed())

        assert answer[4] == {"type": "text-delta", "id": "text-1", "delta": text}

    @pytest.mark.parametrize("more", [{"logprobs": {"content": []}}, {"name": "x"}])
    def test_other_fields_of_a_delta_are_not_shown(self, more: dict[str, Any]) -> None:
        answer = said(delta(content="a"), delta(content="b", **more), completed())

        assert answer[2:-3] == words("text", 1, "a", "b")


class TestTools:
    def test_a_tool_call_is_streamed_in_pieces_and_then_sent_whole(self) -> None:
        answer = said(
            call("", name="look", id="c1", type="function"), call('{"a":'), call("1.5}"), completed("tool_calls")
        )

        assert answer == [
            *BEGIN,
            {"type": "tool-input-start", "toolCallId": "c1", "toolName": "look"},
            {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"a":'},
            {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": "1.5}"},
            {"type": "tool-input-available", "toolCallId": "c1", "toolName": "look", "input": {"a": 1.5}},
            *end("tool-calls"),
        ]

    def test_text_before_a_call_is_closed(self) -> None:
        answer = said(delta(content="Let me see."), call("{}", name="look", id="c1"), completed("tool_calls"))

        assert answer[2:5] == words("text", 1, "Let me see.")
        assert answer[5]["type"] == "tool-input-start"

    def test_calls_side_by_side_keep_apart(self) -> None:
        answer = said(
            call('{"n":', name="one", id="c1"),
            call('{"n":', name="two", id="c2", index=1),
            call("1}"),
            call("2}", index=1),
            completed("tool_calls"),
        )

        assert [(part["toolCallId"], part["input"]) for part in answer if part != DONE and "input" in part] == [
            ("c1", {"n": 1}),
            ("c2", {"n": 2}),
        ]

    def test_a_log_of_an_earlier_version_may_hold_a_call_without_a_name(self) -> None:
        assert said(call("{}", id="c1"), completed()) == [*BEGIN, *end()]

    def test_no_arguments_are_an_empty_object(self) -> None:
        assert said(call(name="look", id="c1"), completed())[3]["input"] == {}

    def test_the_further_fields_of_a_call_travel_as_metadata(self) -> None:
        signature = {"google": {"thought_signature": "s"}}
        answer = said(
            call("", name="look", id="c1", extra_content=signature),
            delta(tool_calls=[{"index": 0, "cost": 1}]),
            completed(),
        )

        assert answer[3] == {
            "type": "tool-input-available",
            "toolCallId": "c1",
            "toolName": "look",
            "providerMetadata": {"tailrace": {"extra_content": signature, "cost": 1}},
            "input": {},
        }

    def test_the_input_of_a_custom_tool_is_its_text(self) -> None:
        first = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "patch", "input": "*** "}}
        answer = said(
            delta(tool_calls=[first]), delta(tool_calls=[{"index": 0, "custom": {"input": "Begin"}}]), completed()
        )

        assert answer[2:6] == [
            {"type": "tool-input-start", "toolCallId": "c1", "toolName": "patch"},
            {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": "*** "},
            {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": "Begin"},
            {
                "type": "tool-input-available",
                "toolCallId": "c1",
                "toolName": "patch",
                "providerMetadata": {"tailrace": {"type": "custom"}},
                "input": "*** Begin",
            },
        ]

    @pytest.mark.parametrize("arguments", ["{", "NaN", '{"a":1e999}', "[" * 5000, "9" * 5000])
    def test_arguments_that_are_not_json_are_an_error_of_the_call(self, arguments: str) -> None:
        answer = said(call(arguments, name="look", id="c1"), completed("tool_calls"))

        assert answer[-4]["type"] == "tool-input-error"
        assert answer[-4]["input"] == arguments
        assert answer[-4]["errorText"]

    @pytest.mark.parametrize(
        "calls",
        [
            *(None, {}, [None], [{"function": None, "id": "x"}], [{"function": {"arguments": {}, "name": 5}}]),
            [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": {"a": 1}}}],
        ],
    )
    def test_calls_in_another_form_are_passed_over(self, calls: Any) -> None:
        assert said(delta(tool_calls=calls), completed()) == [*BEGIN, *end()]


class TestEnds:
    @pytest.mark.parametrize(
        ("reason", "reported"),
        [
            ("stop", "stop"),
            ("length", "length"),
            ("content_filter", "content-filter"),
            ("tool_calls", "tool-calls"),
            ("function_call", "tool-calls"),
            ("whatever", "other"),
            (None, "stop"),
        ],
    )
    def test_a_finish_reason_is_translated_to_one_that_every_client_knows(
        self, reason: str | None, reported: str
    ) -> None:
        assert said(delta(content="a"), completed(reason))[-3:] == end(reported)

    def test_an_answer_without_a_word_is_still_a_message(self) -> None:
        assert said(QUEUED, completed()) == [*BEGIN, *end()]

    def test_a_cancelled_answer_is_closed_and_aborted(self) -> None:
        stream = UiMessageStream("m1")

        frames = stream.translate(delta(content="a")) + stream.translate(CANCELLED)

        assert parts(frames) == [*BEGIN, *words("text", 1, "a"), {"type": "abort"}, DONE]
        assert (stream.ended, stream.failure) == (True, None)

    def test_a_cancelled_answer_that_had_not_begun_is_only_aborted(self) -> None:
        assert said(QUEUED, CANCELLED) == [{"type": "abort"}, DONE]

    @pytest.mark.parametrize(("event", "text"), [(FAILED, "Too busy."), (EXPIRED, "Time is up.")])
    def test_a_failure_after_a_word_is_an_error_and_not_done(self, event: Event, text: str) -> None:
        stream = UiMessageStream("m1")

        frames = stream.translate(delta(content="a")) + stream.translate(event)

        assert parts(frames) == [*BEGIN, *words("text", 1, "a", closed=False), {"type": "error", "errorText": text}]
        assert stream.ended

    def test_a_failure_before_the_first_word_is_kept_for_a_status(self) -> None:
        stream = UiMessageStream("m1")

        assert stream.translate(FAILED) == b""
        assert stream.failure is not None
        assert (stream.failure.status, stream.failure.message) == (503, "Too busy.")
        assert parts(stream.failure_frame()) == [{"type": "error", "errorText": "Too busy."}]

    def test_the_failure_frame_is_empty_without_a_failure(self) -> None:
        assert UiMessageStream("m1").failure_frame() == b""

    @pytest.mark.parametrize("event", [ROLLBACK, GAP], ids=lambda event: event.type.value)
    def test_a_rollback_of_shown_text_is_an_error(self, event: Event) -> None:
        stream = UiMessageStream("m1")

        stream.translate(delta(content="a"))

        assert [part["type"] for part in parts(stream.translate(event))] == ["error"]
        assert stream.failure is not None
        assert stream.failure.code == event.type.value
        assert stream.translate(completed()) == b""

    @pytest.mark.parametrize("event", [ROLLBACK, GAP], ids=lambda event: event.type.value)
    def test_a_new_start_is_not_noticed_before_the_first_word(self, event: Event) -> None:
        answer = said(event, delta(content="a"), completed())

        assert answer == [*BEGIN, *words("text", 1, "a"), *end()]
