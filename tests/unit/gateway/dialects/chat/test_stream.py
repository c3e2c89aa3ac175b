"""Test the chat dialect: the chunks that each event becomes for a client of OpenAI's chat completions."""

import json
from typing import Any

import pytest

from gateway.dialects.chat.stream import ChatCompletion, ChatOptions, ChatStream
from shared.model.events import Event, EventId, EventType, encode_data
from shared.model.jobs import new_job_id

CREATED_S = 1_700_000_000
JOB = new_job_id(CREATED_S * 1000 + 321, 42)
ANSWER = "chatcmpl-" + JOB.removeprefix("job_")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ERROR = {"type": "provider_error", "code": "provider_overloaded", "message": "Too busy.", "retryable": True}

QUEUED = Event(EventType.QUEUED, EventId(0, 1), b'{"job":"x","lane":"default","position":1}')
STARTED = Event(EventType.STARTED, EventId(1, 1), b'{"attempt":1,"model":"m","provider":"p","resumed_from":null}')
PROGRESS = Event(EventType.PROGRESS, EventId(1, 2), b'{"done":1,"total":2,"message":"half"}')
GAP = Event(EventType.GAP, None, b'{"requested":"3-9","earliest":"0-1","latest":"2-4"}')


def delta(data: dict[str, Any], epoch: int = 1, seq: int = 2) -> Event:
    return Event(EventType.DELTA, EventId(epoch, seq), encode_data(data))


def first(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    """Build the first fragment of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def more(index: int, arguments: str) -> dict[str, Any]:
    """Build a later fragment of a tool call."""
    return {"index": index, "function": {"arguments": arguments}}


def completed(*reasons: str | None, **more: Any) -> Event:
    data = {
        "finish_reason": reasons[0],
        "finish_reasons": list(reasons),
        "usage": USAGE | {"source": "provider"},
    }
    return Event(EventType.COMPLETED, EventId(1, 9), encode_data(data | more))


def rollback(to: str) -> Event:
    return Event(EventType.ROLLBACK, EventId(2, 1), encode_data({"to": to, "reason": "worker_lost"}))


def ended(event: EventType, error: dict[str, Any] | None = None) -> Event:
    return Event(event, EventId(1, 9), encode_data({"error": error or ERROR, "usage": None, "events": 9}))


def stream(include_usage: bool = False, choices: int = 1, legacy: bool = False) -> ChatStream:
    return ChatStream(ChatOptions(JOB, "fast", include_usage, choices, legacy))


def said(frames: bytes) -> list[Any]:
    """Decode the data of frames; `[DONE]` stays as it is."""
    assert frames == b"" or frames.endswith(b"\n\n")
    lines = [frame.split(b"\n") for frame in frames.split(b"\n\n") if frame]
    assert all(data.startswith(b"data: ") and all(line.startswith(b"id: ") for line in rest) for data, *rest in lines)
    payloads = [data.removeprefix(b"data: ") for data, *_ in lines]
    return [json.loads(payload) if payload != b"[DONE]" else "[DONE]" for payload in payloads]


def choices_of(frames: bytes) -> list[dict[str, Any]]:
    return [choice for chunk in said(frames) if chunk != "[DONE]" for choice in chunk["choices"]]


def completion(*events: Event, legacy: bool = False) -> ChatCompletion:
    whole = ChatCompletion(ChatOptions(JOB, "fast", legacy_functions=legacy))
    for event in events:
        whole.accept(event)
    return whole


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    events = [delta(data, seq=seq) for seq, data in enumerate(deltas, 1)]
    folded: dict[str, Any] = completion(*events, completed("stop")).body()["choices"][0]["message"]
    return folded


class TestStream:
    def test_a_plain_answer_is_a_role_its_tokens_a_finish_reason_and_done(self) -> None:
        answer = stream()

        frames = b"".join(
            answer.translate(event)
            for event in (
                QUEUED,
                STARTED,
                delta({"content": "Hel"}),
                delta({"content": "lo"}),
                completed("stop"),
            )
        )

        head = {"id": ANSWER, "object": "chat.completion.chunk", "created": CREATED_S, "model": "fast"}
        assert said(frames) == [
            head | {"choices": [{"index": 0, "delta": given, "finish_reason": reason}]}
            for given, reason in [
                ({"role": "assistant", "content": ""}, None),
                ({"content": "Hel"}, None),
                ({"content": "lo"}, None),
                ({}, "stop"),
            ]
        ] + ["[DONE]"]
        assert answer.ended
        assert answer.failure is None

    @pytest.mark.parametrize("event", [QUEUED, STARTED, PROGRESS], ids=lambda event: event.type.value)
    def test_events_that_are_no_part_of_the_answer_have_no_word(self, event: Event) -> None:
        answer = stream()

        assert answer.translate(event) == b""
        assert not answer.shown
        assert not answer.ended

    def test_the_first_delta_is_what_makes_it_shown(self) -> None:
        answer = stream()

        answer.translate(delta({"content": "Hel"}))

        assert answer.shown
        assert not answer.ended

    def test_an_answer_without_any_delta_still_has_its_role_and_its_finish_reason(self) -> None:
        assert choices_of(stream().translate(completed("length"))) == [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "length"},
        ]

    def test_usage_is_the_last_chunk_and_null_in_the_others_when_it_was_asked_for(self) -> None:
        answer = stream(include_usage=True)

        *chunks, last, done = said(
            answer.translate(delta({"content": "a"}))
            + answer.translate(delta({"content": "b"}))
            + answer.translate(completed("stop"))
        )

        assert [chunk["usage"] for chunk in chunks] == [None] * 4
        assert last["choices"] == []
        assert last["usage"] == USAGE
        assert done == "[DONE]"

    def test_usage_keeps_every_field_the_provider_gave(self) -> None:
        usage = USAGE | {
            "completion_tokens_details": {"reasoning_tokens": 7},
            "prompt_cache_hit_tokens": 2,
            "cost": 0.0001,
        }

        frames = stream(include_usage=True).translate(completed("stop", usage=usage | {"source": "provider"}))

        assert said(frames)[-2]["usage"] == usage

    @pytest.mark.parametrize("source", ["estimated", "partial"])
    def test_usage_that_the_provider_did_not_count_is_labelled(self, source: str) -> None:
        usage = USAGE | {"source": source, "prompt_tokens_details": None}

        frames = stream(include_usage=True).translate(completed("stop", usage=usage))

        assert said(frames)[-2]["usage"] == USAGE | {"source": source}

    def test_usage_that_nobody_counted_is_zero(self) -> None:
        frames = stream(include_usage=True).translate(completed("stop", usage=None))

        assert said(frames)[-2]["usage"] == dict.fromkeys(USAGE, 0)

    def test_tool_calls_keep_their_numbers_and_open_with_null_content(self) -> None:
        answer = stream()
        fragments = [
            {"tool_calls": [first(0, "f")]},
            {"tool_calls": [more(0, "{}")]},
        ]

        choices = choices_of(b"".join(answer.translate(delta(fragment)) for fragment in fragments))

        assert [choice["delta"] for choice in choices] == [{"role": "assistant", "content": None}, *fragments]
        assert {choice["index"] for choice in choices} == {0}

    def test_keys_this_version_does_not_know_pass_as_they_are(self) -> None:
        answer = stream()
        fragment = {
            "reasoning_content": "hm",
            "reasoning_details": [{"type": "x", "n": 1.5}],
            "refusal": "no",
        }

        assert choices_of(answer.translate(delta(fragment)))[-1]["delta"] == fragment

    def test_logprobs_stand_beside_the_delta(self) -> None:
        logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}

        answer = stream()
        likely = delta({"content": "a", "logprobs": logprobs})

        role, *choices = choices_of(answer.translate(likely) + answer.translate(likely))

        assert role == {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        beside = {"index": 0, "delta": {"content": "a"}, "logprobs": logprobs, "finish_reason": None}
        assert choices == [beside, beside]

    def test_each_choice_has_one_role_and_one_finish_reason(self) -> None:
        answer = stream(choices=2)
        events = [
            delta({"content": "a"}),
            delta({"content": "b", "index": 1}),
            delta({"content": "c", "index": 1}),
        ]

        choices = choices_of(b"".join(map(answer.translate, [*events, completed("stop", "length")])))

        assert [(choice["index"], choice["delta"].get("role"), choice["finish_reason"]) for choice in choices] == [
            (0, "assistant", None),
            (0, None, None),
            (1, "assistant", None),
            (1, None, None),
            (1, None, None),
            (0, None, "stop"),
            (1, None, "length"),
        ]

    def test_no_choice_overtakes_another(self) -> None:
        answer = stream(choices=3)

        choices = choices_of(answer.translate(delta({"content": "b", "index": 1})))
        choices += choices_of(answer.translate(delta({"content": "a"})))

        assert [(choice["index"], choice["delta"]) for choice in choices] == [
            (0, {"role": "assistant", "content": ""}),
            (1, {"role": "assistant", "content": ""}),
            (1, {"content": "b"}),
            (0, {"content": "a"}),
        ]

    def test_an_index_nobody_asked_for_opens_only_itself(self) -> None:
        choices = choices_of(stream().translate(delta({"content": "b", "index": 10**12})))

        assert [choice["index"] for choice in choices] == [10**12] * 2

    def test_choices_the_provider_did_not_make_are_not_made_up(self) -> None:
        answer = stream(choices=3)
        answer.translate(delta({"content": "a"}))

        assert [choice["index"] for choice in choices_of(answer.translate(completed("stop")))] == [0]

    def test_a_choice_without_a_reason_of_its_own_gets_the_jobs(self) -> None:
        answer = stream(choices=3)
        answer.translate(delta({"content": "a", "index": 2}))

        choices = choices_of(answer.translate(completed("length", None)))

        assert [choice["finish_reason"] for choice in choices] == ["length"] * 3

    def test_a_finish_reason_is_never_null(self) -> None:
        outcome = {"finish_reason": None, "finish_reasons": None, "usage": USAGE}
        frames = stream().translate(Event(EventType.COMPLETED, EventId(1, 9), encode_data(outcome)))

        assert choices_of(frames)[-1]["finish_reason"] == "stop"

    @pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "eos"])
    def test_finish_reasons_pass_as_they_are(self, reason: str) -> None:
        assert choices_of(stream().translate(completed(reason)))[-1]["finish_reason"] == reason

    def test_a_failure_after_something_was_shown_is_an_error_frame_and_no_done(self) -> None:
        answer = stream()
        answer.translate(delta({"content": "a"}))

        frames = answer.translate(ended(EventType.FAILED))

        assert said(frames) == [
            {
                "error": {
                    "message": "Too busy.",
                    "type": "server_error",
                    "param": None,
                    "code": "provider_overloaded",
                }
            }
        ]
        assert answer.ended
        assert answer.failure is not None

    @pytest.mark.parametrize("event", [EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED])
    def test_a_bad_end_before_anything_was_shown_is_left_to_the_status(self, event: EventType) -> None:
        answer = stream()

        assert answer.translate(ended(event, ERROR | {"param": "model"})) == b""
        assert answer.ended
        assert answer.failure is not None
        assert (answer.failure.code, answer.failure.status) == ("provider_overloaded", 503)
        assert (answer.failure.param, answer.failure.retryable) == ("model", True)

    def test_a_failure_can_be_told_after_the_headers_went_out(self) -> None:
        answer = stream()
        answer.translate(ended(EventType.FAILED))

        assert said(answer.failure_frame())[0]["error"]["code"] == "provider_overloaded"

    def test_without_a_failure_there_is_no_failure_frame(self) -> None:
        assert stream().failure_frame() == b""

    @pytest.mark.parametrize("event", [rollback("0-2"), GAP], ids=["rollback", "gap"])
    def test_starting_over_before_anything_was_shown_goes_unnoticed(self, event: Event) -> None:
        answer = stream()
        events = [STARTED, event, STARTED, delta({"content": "a"}), completed("stop")]

        frames = b"".join(map(answer.translate, events))

        untroubled = stream()
        assert frames == b"".join(map(untroubled.translate, [delta({"content": "a"}), completed("stop")]))

    @pytest.mark.parametrize(("event", "code"), [(rollback("0-2"), "rollback"), (GAP, "gap")], ids=["rollback", "gap"])
    def test_starting_over_after_something_was_shown_is_an_error(self, event: Event, code: str) -> None:
        answer = stream()
        answer.translate(delta({"content": "a"}))

        frames = answer.translate(event)

        assert [error["error"]["code"] for error in said(frames)] == [code]
        assert answer.ended
        assert answer.failure is not None
        assert (answer.failure.status, answer.failure.retryable) == (500, True)

    def test_nothing_follows_the_end(self) -> None:
        answer = stream()
        answer.translate(delta({"content": "a"}))
        answer.translate(rollback("0-2"))

        assert answer.translate(delta({"content": "b"})) == b""
        assert answer.translate(completed("stop")) == b""

    def test_text_that_looks_like_the_protocol_survives(self) -> None:
        text = 'data: [DONE]\n\n"index":"logprobs":"role":\r\u2028\u2029 {"delta":{}} ","a":"\\ \U0001f5fc'
        answer = stream()
        answer.translate(delta({"content": "a"}))

        assert choices_of(answer.translate(delta({"content": text})))[0]["delta"] == {"content": text}

    def test_a_model_name_that_looks_like_the_protocol_survives(self) -> None:
        answer = ChatStream(ChatOptions(JOB, '","delta":{}'))
        answer.translate(delta({"content": "a"}))

        chunk = said(answer.translate(delta({"content": "b"})))[0]

        assert chunk["model"] == '","delta":{}'
        assert chunk["choices"][0]["delta"] == {"content": "b"}


class TestCompletion:
    def test_a_plain_answer_is_one_object(self) -> None:
        events = [QUEUED, STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("stop")]

        whole = completion(*events)

        assert whole.ended
        assert whole.failure is None
        assert whole.body() == {
            "id": ANSWER,
            "object": "chat.completion",
            "created": CREATED_S,
            "model": "fast",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }

    def test_before_the_end_there_is_no_body(self) -> None:
        with pytest.raises(ValueError, match="completed"):
            completion(STARTED, delta({"content": "a"})).body()

    @pytest.mark.parametrize("event", [EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED])
    def test_a_bad_end_is_a_failure_and_no_body(self, event: EventType) -> None:
        whole = completion(delta({"content": "a"}), ended(event))

        assert whole.ended
        assert whole.failure is not None
        assert (whole.failure.code, whole.failure.status) == ("provider_overloaded", 503)
        with pytest.raises(ValueError, match="completed"):
            whole.body()

    def test_nothing_is_accepted_after_the_end(self) -> None:
        whole = completion(delta({"content": "a"}), completed("stop"), delta({"content": "b"}))

        assert whole.body()["choices"][0]["message"]["content"] == "a"

    def test_an_answer_without_words_or_calls_is_empty(self) -> None:
        assert message()["content"] == ""
        assert message({"reasoning_content": "hm"})["content"] == ""

    def test_tool_calls_are_put_together_by_their_numbers(self) -> None:
        folded = message(
            {"tool_calls": [first(0, "f", "{")]},
            {"tool_calls": [first(1, "g")]},
            {"tool_calls": [more(0, '"x":'), more(1, "[]")]},
            {"tool_calls": [more(0, "1}"), {"index": 1, "extra_content": {"signature": "s"}}]},
        )

        assert folded["content"] is None
        assert folded["tool_calls"] == [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "g", "arguments": "[]"},
                "extra_content": {"signature": "s"},
            },
        ]

    def test_a_custom_tools_input_is_put_together(self) -> None:
        folded = message(
            {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
            {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]},
        )

        assert folded["tool_calls"] == [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "xy"}}]

    def test_words_beside_tool_calls_are_kept(self) -> None:
        folded = message({"content": "I look."}, {"tool_calls": [first(0, "f")]})

        assert folded["content"] == "I look."

    def test_a_refusal_leaves_the_content_null(self) -> None:
        folded = message({"refusal": "I can"}, {"refusal": "not."})

        assert folded["refusal"] == "I cannot."
        assert folded["content"] is None

    def test_reasoning_is_put_together_beside_the_content(self) -> None:
        folded = message({"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "a"})

        assert (folded["reasoning_content"], folded["content"]) == ("hm", "a")

    def test_fields_this_version_does_not_know_are_put_together_by_their_shape(self) -> None:
        folded = message(
            {"audio": {"id": "x", "data": "aa", "expires_at": None}, "annotations": [{"a": 1}], "score": 1},
            {"audio": {"id": "x", "data": "bb", "expires_at": 7}, "annotations": [{"b": 2}], "score": 2},
            {"reasoning_details": [{"index": 0, "type": "text", "text": "h"}]},
            {"reasoning_details": [{"index": 0, "type": "text", "text": "m"}]},
            {"images": [{"type": "image_url"}], "content_parts": [{"type": "reference", "reference_ids": [1]}]},
        )

        assert folded["audio"] == {"id": "x", "data": "aabb", "expires_at": 7}
        assert folded["annotations"] == [{"a": 1}, {"b": 2}]
        assert folded["score"] == 2
        assert folded["reasoning_details"] == [{"index": 0, "type": "text", "text": "hm"}]
        assert folded["images"] == [{"type": "image_url"}]
        assert folded["content_parts"] == [{"type": "reference", "reference_ids": [1]}]

    def test_logprobs_are_put_together_beside_the_message(self) -> None:
        whole = completion(
            delta({"content": "a", "logprobs": {"content": [{"token": "a"}], "refusal": None}}, seq=1),
            delta({"content": "b", "logprobs": {"content": [{"token": "b"}], "refusal": None}}, seq=2),
            completed("stop"),
        )

        choice = whole.body()["choices"][0]

        assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}
        assert "logprobs" not in choice["message"]

    def test_each_choice_is_put_together_apart(self) -> None:
        whole = completion(
            delta({"content": "b1", "index": 1}),
            delta({"content": "a"}),
            delta({"content": "b2", "index": 1}),
            completed("stop", "length"),
        )

        choices = whole.body()["choices"]

        assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [
            (0, "a"),
            (1, "b1b2"),
        ]
        assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]

    @pytest.mark.parametrize(("to", "rest"), [("0-1", ""), ("1-1", "a"), ("1-2", "ab"), ("1-9", "abc")], ids=str)
    def test_a_rollback_forgets_exactly_what_came_after_it(self, to: str, rest: str) -> None:
        deltas = [delta({"content": text}, seq=seq) for seq, text in enumerate("abc", 1)]

        whole = completion(*deltas, rollback(to), delta({"content": "!"}, epoch=2, seq=3), completed("stop"))

        assert whole.body()["choices"][0]["message"]["content"] == rest + "!"

    def test_a_gap_forgets_everything_since_the_log_comes_again(self) -> None:
        whole = completion(delta({"content": "a"}), GAP, QUEUED, STARTED, delta({"content": "a"}), completed("stop"))

        assert whole.body()["choices"][0]["message"]["content"] == "a"

    def test_the_body_can_be_asked_for_again(self) -> None:
        whole = completion(delta({"tool_calls": [first(0, "f")]}), completed("tool_calls"))

        assert whole.body() == whole.body()


class TestMessage:
    def test_it_has_the_words_of_the_first_choice_so_far_and_the_thoughts_before_them(self) -> None:
        deltas: list[dict[str, Any]] = [
            {"content": "a"},
            {"content": "x", "index": 1},
            {"reasoning_content": "h"},
            {"content": "b"},
        ]

        message = completion(*(delta(data, seq=seq) for seq, data in enumerate(deltas, 2))).message()

        assert message == {"role": "assistant", "content": "ab", "reasoning_content": "h"}

    def test_a_refusal_is_its_words(self) -> None:
        assert completion(delta({"refusal": "No."})).message() == {"role": "assistant", "content": "No."}

    @pytest.mark.parametrize(
        "nothing", [{"reasoning_content": "h"}, {"tool_calls": [first(0, "f")]}, {"content": ["a"]}]
    )
    def test_an_answer_without_words_has_no_message(self, nothing: dict[str, Any]) -> None:
        assert completion(delta(nothing)).message() is None

    def test_words_that_were_taken_back_are_not_in_it(self) -> None:
        assert completion(delta({"content": "a"}), rollback("0-1")).message() is None


class TestExtras:
    """Test fields that the upstream sent beside the delta, in its choice and in its chunk."""

    def test_a_choices_fields_stand_beside_its_delta_once(self) -> None:
        answer = stream()
        filtered = {"hate": {"filtered": False}}

        choices = choices_of(
            answer.translate(delta({"content": "a", "choice_extra": {"content_filter_results": filtered}}))
            + answer.translate(delta({"content": "b"}))
        )

        assert choices[1:] == [
            {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "content_filter_results": filtered},
            {"index": 0, "delta": {"content": "b"}, "finish_reason": None},
        ]

    def test_scalars_of_a_chunk_stay_until_they_change_and_the_rest_is_shown_once(self) -> None:
        answer = stream(include_usage=True)
        events = [
            delta({"content": "a", "chunk_extra": {"system_fingerprint": "fp_1", "citations": ["x"]}}),
            delta({"content": "b"}),
            delta({"content": "c", "chunk_extra": {"system_fingerprint": "fp_2", "service_tier": "flex"}}),
            delta({"content": "d"}),
            completed("stop"),
        ]

        *chunks, done = said(b"".join(map(answer.translate, events)))

        assert [chunk.get("system_fingerprint") for chunk in chunks] == ["fp_1"] * 3 + ["fp_2"] * 4
        assert [chunk.get("service_tier") for chunk in chunks] == [None] * 3 + ["flex"] * 4
        assert [chunk.get("citations") for chunk in chunks] == [None, ["x"]] + [None] * 5
        assert done == "[DONE]"

    def test_a_fields_place_follows_its_last_value(self) -> None:
        answer = stream()
        events = [
            delta({"content": "a", "chunk_extra": {"note": "text"}}),
            delta({"content": "b", "chunk_extra": {"note": ["list"]}}),
            delta({"chunk_extra": {"note": ["other"]}}),
            delta({"content": "c", "chunk_extra": {"note": 1}}),
        ]

        chunks = said(b"".join(map(answer.translate, events)))

        assert [chunk.get("note") for chunk in chunks] == ["text", "text", ["list"], 1]

    def test_fields_that_come_alone_wait_for_the_next_chunk_of_their_choice(self) -> None:
        answer = stream(choices=2)
        answer.translate(delta({"content": "a"}))
        answer.translate(delta({"content": "b", "index": 1}))

        alone = answer.translate(
            delta({"choice_extra": {"stop_reason": 7}, "index": 1, "chunk_extra": {"cite": ["x"]}})
        )
        chunks = said(answer.translate(delta({"content": "c"})) + answer.translate(completed("stop", "length")))

        assert alone == b""
        assert [chunk.get("cite") for chunk in chunks[:-1]] == [["x"], None, None]
        assert [choice.get("stop_reason") for chunk in chunks[:-1] for choice in chunk["choices"]] == [None, None, 7]
        assert chunks[2]["choices"][0]["finish_reason"] == "length"

    def test_a_field_of_the_first_choice_waits_for_that_choice(self) -> None:
        answer = stream(choices=2)
        events = [
            delta({"content": "a"}),
            delta({"choice_extra": {"note": 1}}),
            delta({"content": "b", "index": 1}),
            delta({"content": "c"}),
        ]

        choices = choices_of(b"".join(map(answer.translate, events)))

        assert [(choice["index"], choice.get("note")) for choice in choices] == [
            (0, None),
            (0, None),
            (1, None),
            (1, None),
            (0, 1),
        ]

    def test_a_choice_that_has_fields_only_is_finished_with_them(self) -> None:
        answer = stream(choices=2)
        answer.translate(delta({"choice_extra": {"note": 1}, "index": 1}))

        choices = choices_of(answer.translate(completed("stop")))

        assert [(choice["index"], choice["finish_reason"], choice.get("note")) for choice in choices] == [
            (0, None, None),
            (0, "stop", None),
            (1, None, None),
            (1, "stop", 1),
        ]

    def test_choices_that_are_opened_at_the_end_are_finished_too(self) -> None:
        answer = stream(choices=3)
        answer.translate(delta({"choice_extra": {"note": 1}, "index": 2}))

        choices = choices_of(answer.translate(completed("stop")))

        finished = [choice["index"] for choice in choices if choice["finish_reason"]]
        assert (
            sorted(finished) == sorted(choice["index"] for choice in choices if "role" in choice["delta"]) == [0, 1, 2]
        )

    def test_fields_alone_begin_no_answer(self) -> None:
        answer = stream()

        assert answer.translate(delta({"chunk_extra": {"system_fingerprint": "fp"}})) == b""
        assert not answer.shown
        assert answer.translate(ended(EventType.FAILED)) == b""

    @pytest.mark.parametrize(
        ("event", "kept"), [(rollback("1-2"), "old"), (rollback("0-1"), None), (GAP, None)], ids=["to", "all", "gap"]
    )
    def test_fields_that_were_taken_back_are_not_shown(self, event: Event, kept: str | None) -> None:
        answer = stream()
        answer.translate(delta({"choice_extra": {"stop_reason": "old"}}, seq=2))
        answer.translate(delta({"chunk_extra": {"fp": "new"}}, seq=3))
        answer.translate(event)

        role, chunk = said(answer.translate(delta({"content": "a"}, epoch=3)))

        assert "fp" not in role | chunk
        assert chunk["choices"][0].get("stop_reason") == kept

    @pytest.mark.parametrize("extra", ["choice_extra", "chunk_extra"])
    def test_fields_never_replace_those_of_the_dialect(self, extra: str) -> None:
        names = ["id", "object", "created", "model", "choices", "usage", "index", "delta", "message", "text"]
        odd = delta({"content": "a", extra: dict.fromkeys([*names, "finish_reason", "logprobs"], "odd")})
        events = [odd, completed("stop")]

        plain = [delta({"content": "a"}), completed("stop")]
        assert b"".join(map(stream().translate, events)) == b"".join(map(stream().translate, plain))
        assert completion(*events).body() == completion(*plain).body()

    def test_a_field_that_looks_like_the_protocol_survives(self) -> None:
        answer = stream()
        answer.translate(delta({"content": "a", "chunk_extra": {'"delta":{}': '"delta":{}'}}))

        (chunk,) = said(answer.translate(delta({"content": "b"})))

        assert chunk['"delta":{}'] == '"delta":{}'
        assert chunk["choices"][0]["delta"] == {"content": "b"}

    def test_a_completion_has_all_pieces_of_a_field_that_adds_up(self) -> None:
        events = [delta({"content": "a", "choice_extra": {"token_ids": [seq]}}, seq=seq) for seq in (2, 3, 4)]

        assert completion(*events, completed("stop")).body()["choices"][0]["token_ids"] == [2, 3, 4]

    def test_a_completion_has_the_last_value_of_each_in_its_place(self) -> None:
        body = completion(
            delta({"content": "a", "chunk_extra": {"citations": ["x"], "system_fingerprint": "fp"}}),
            delta({"content": "b", "chunk_extra": {"citations": ["x", "y"]}, "choice_extra": {"stop_reason": None}}),
            delta({"index": 1, "choice_extra": {"stop_reason": 7}}),
            completed("stop", "stop"),
        ).body()

        assert (body["citations"], body["system_fingerprint"]) == (["x", "y"], "fp")
        assert [choice.get("stop_reason", "none") for choice in body["choices"]] == [None, 7]
        assert all(choice["message"].keys() == {"role", "content", "refusal"} for choice in body["choices"])


class TestLegacyFunctions:
    """Test a request with `functions`: it expects a `function_call`."""

    CALL = (
        delta({"tool_calls": [first(0, "f"), more(0, "{")]}, seq=2),
        delta({"tool_calls": [more(0, "}") | {"extra_content": "s"}]}, seq=3),
        completed("tool_calls"),
    )

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            ({"functions": [{"name": "f"}]}, True),
            ({"functions": [{"name": "f"}], "tools": []}, True),
            ({"functions": [{"name": "f"}], "tools": [{"type": "function"}]}, False),
            ({"functions": []}, False),
            ({}, False),
        ],
        ids=str,
    )
    def test_the_request_decides(self, request_: dict[str, Any], expected: bool) -> None:
        assert ChatOptions.of(JOB, "fast", request_).legacy_functions is expected

    def test_a_stream_has_the_call_in_its_deltas(self) -> None:
        choices = choices_of(b"".join(map(stream(legacy=True).translate, self.CALL)))

        assert [choice["delta"] for choice in choices] == [
            {"role": "assistant", "content": None},
            {"function_call": {"name": "f", "arguments": "{"}},
            {"function_call": {"arguments": "}", "extra_content": "s"}},
            {},
        ]
        assert choices[-1]["finish_reason"] == "function_call"

    def test_a_completion_has_the_call_in_its_message(self) -> None:
        (choice,) = completion(*self.CALL, legacy=True).body()["choices"]

        assert choice["message"] == {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "function_call": {"name": "f", "arguments": "{}", "extra_content": "s"},
        }
        assert choice["finish_reason"] == "function_call"

    def test_words_pass_as_in_any_chat(self) -> None:
        events = [delta({"content": "a"}), completed("stop")]

        assert completion(*events, legacy=True).body() == completion(*events).body()
        legacy = stream(legacy=True)
        assert b"".join(map(legacy.translate, events)) == b"".join(map(stream().translate, events))

    def test_further_calls_stay_tool_calls(self) -> None:
        events = [
            delta({"tool_calls": [first(0, "f", "{}")]}, seq=2),
            delta({"tool_calls": [first(1, "g", "[]")]}, seq=3),
            completed("tool_calls"),
        ]

        message = completion(*events, legacy=True).body()["choices"][0]["message"]

        assert message["function_call"] == {"name": "f", "arguments": "{}"}
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["g"]
        choices = choices_of(b"".join(map(stream(legacy=True).translate, events)))
        assert choices[2]["delta"] == {"tool_calls": [first(1, "g", "[]") | {"index": 0}]}

    def test_without_functions_a_call_is_a_tool_call(self) -> None:
        choices = choices_of(b"".join(map(stream().translate, self.CALL)))

        assert "tool_calls" in choices[1]["delta"]
        assert choices[-1]["finish_reason"] == "tool_calls"


# Calls in a log of an earlier version, which kept an upstream's fragments as they came.
LOOSE_CALLS: list[Any] = [
    [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    [{"index": "0", "id": "a", "function": {"name": "f", "arguments": "{}"}}],
    [{"index": None, "function": {"arguments": "{}"}}],
    [{"index": 0, "id": "a", "function": None}],
    ["x", None],
    {"a": 1},
]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("calls", LOOSE_CALLS)
def test_calls_in_an_earlier_versions_log_break_no_answer(calls: Any, legacy: bool) -> None:
    events = [delta({"content": "Hello", "tool_calls": calls}), completed("tool_calls")]

    frames = b"".join(map(stream(legacy=legacy).translate, events))
    (whole,) = completion(*events, legacy=legacy).body()["choices"]

    assert frames.endswith(b"data: [DONE]\n\n")
    assert whole["message"]["content"] == "Hello"
