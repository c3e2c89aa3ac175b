"""Test a streamed chat completion, chunk by chunk."""

import pytest

from gateway.dialects.chat.stream import ChatOptions, ChatStream
from shared.model.events import Event, EventId, EventType, encode_data
from tests.unit.gateway.dialects.chat.chats import (
    ANSWER,
    CREATED_S,
    ERROR,
    GAP,
    JOB,
    PROGRESS,
    QUEUED,
    STARTED,
    USAGE,
    choices_of,
    completed,
    delta,
    ended,
    first,
    more,
    rollback,
    said,
    stream,
)


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
    def test_events_outside_the_answer_write_no_frame(self, event: Event) -> None:
        answer = stream()

        assert answer.translate(event) == b""
        assert not answer.shown
        assert not answer.ended

    def test_a_stream_counts_as_shown_from_its_first_delta_on(self) -> None:
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

    def test_uncounted_usage_is_zero(self) -> None:
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

    def test_an_unrequested_index_opens_only_its_own_choice(self) -> None:
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


class TestEnd:
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

    def test_a_failure_frame_can_follow_the_headers(self) -> None:
        answer = stream()
        answer.translate(ended(EventType.FAILED))

        assert said(answer.failure_frame())[0]["error"]["code"] == "provider_overloaded"

    def test_the_failure_frame_is_empty_without_a_failure(self) -> None:
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
