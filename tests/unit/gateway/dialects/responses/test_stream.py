"""Test the responses dialect: the events that a reader of OpenAI's Responses gets for each logged event."""

import json
from typing import Any

import pytest

from gateway.dialects.responses.object import ResponseOptions, response_object
from gateway.dialects.responses.stream import ALL, ResponseStream, WholeResponse
from shared.model.events import Event, EventId, EventType, encode_data
from shared.model.jobs import new_job_id
from tests.unit.gateway.dialects.chat.chats import (
    ERROR,
    GAP,
    PROGRESS,
    QUEUED,
    STARTED,
    completed,
    delta,
    ended,
    rollback,
)

CREATED_S = 1_700_000_000
JOB = new_job_id(CREATED_S * 1000 + 321, 42)
BARE = JOB.removeprefix("job_")
MESSAGE = f"msg_{BARE}_0"


def stream(after: int = ALL, **options: Any) -> ResponseStream:
    return ResponseStream(ResponseOptions(JOB, "fast", **options), after)


def said(frames: bytes) -> list[dict[str, Any]]:
    """Decode the data of frames."""
    found = []
    for frame in frames.split(b"\n\n")[:-1]:
        head, data = frame.split(b"\n")
        found.append(json.loads(data.removeprefix(b"data: ")))
        assert head == b"event: " + found[-1]["type"].encode()
    return found


def reported(*events: Event, **options: Any) -> list[dict[str, Any]]:
    answer = stream(**options)
    return said(b"".join(map(answer.translate, events)))


def names(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"].removeprefix("response.") for frame in frames]


def output(*deltas: dict[str, Any], end: Event | None = None) -> list[dict[str, Any]]:
    """Return the output of an answer that consists of these deltas."""
    events = [delta(data, seq=seq) for seq, data in enumerate(deltas, 2)]
    found: list[dict[str, Any]] = reported(QUEUED, STARTED, *events, end or completed("stop"))[-1]["response"]["output"]
    return found


def whole(*events: Event, **options: Any) -> WholeResponse:
    folded = WholeResponse(ResponseOptions(JOB, "fast", **options))
    for event in events:
        folded.accept(event)
    return folded


class TestStream:
    def test_a_plain_answer_is_streamed_from_its_creation_to_its_end(self) -> None:
        frames = reported(QUEUED, STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("stop"))

        assert [frame["sequence_number"] for frame in frames] == list(range(10))
        assert names(frames) == [
            *("created", "in_progress", "output_item.added", "content_part.added"),
            *("output_text.delta", "output_text.delta", "output_text.done"),
            *("content_part.done", "output_item.done", "completed"),
        ]
        place = {"item_id": MESSAGE, "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
        item = {"id": MESSAGE, "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        assert frames[2]["item"] == item | {"status": "in_progress", "content": []}
        assert frames[3] == frames[3] | place | {"part": part | {"text": ""}}
        assert frames[4] == frames[4] | place | {"delta": "Hel", "logprobs": []}
        assert frames[6] == frames[6] | place | {"text": "Hello", "logprobs": []}
        assert frames[7] == frames[7] | place | {"part": part}
        assert frames[8] == frames[8] | {"output_index": 0, "item": item}
        assert frames[9]["response"]["output"] == [item]
        assert frames[9]["response"]["status"] == "completed"
        assert frames[9]["response"]["usage"] == {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        }

    def test_a_background_response_is_queued_first(self) -> None:
        frames = reported(QUEUED, STARTED, background=True)

        assert names(frames) == ["created", "queued", "in_progress"]
        assert [frame["response"]["status"] for frame in frames] == ["queued", "queued", "in_progress"]

    def test_a_response_object_has_the_requested_fields_and_otherwise_the_defaults(self) -> None:
        (created,) = reported(QUEUED, metadata={"a": "b"}, asked={"instructions": "Be brief.", "store": False})
        response = created["response"]

        assert (response["instructions"], response["store"], response["metadata"]) == ("Be brief.", False, {"a": "b"})
        assert (response["tools"], response["tool_choice"], response["truncation"]) == ([], "auto", "disabled")
        assert (response["id"], response["model"], response["created_at"]) == (f"resp_{BARE}", "fast", CREATED_S)

    @pytest.mark.parametrize("event", [PROGRESS, rollback("0-1"), GAP], ids=lambda event: event.type.value)
    def test_events_outside_the_answer_write_no_frame_before_its_first_text(self, event: Event) -> None:
        answer = stream()
        answer.translate(QUEUED)
        answer.translate(STARTED)

        assert answer.translate(event) == b""
        assert not answer.shown
        assert not answer.ended

    def test_a_second_begin_repeats_no_event(self) -> None:
        again = STARTED._replace(id=EventId(2, 2))

        assert names(reported(QUEUED, STARTED, rollback("0-1"), QUEUED, again)) == ["created", "in_progress"]

    def test_a_log_that_lost_its_head_still_begins_with_the_creation(self) -> None:
        assert names(reported(STARTED)) == ["created", "in_progress"]
        assert names(reported(ended(EventType.EXPIRED))) == ["created", "failed"]

    def test_nothing_follows_the_end(self) -> None:
        answer = stream()
        answer.translate(completed("stop"))

        assert answer.ended
        assert answer.translate(delta({"content": "more"})) == b""

    def test_a_reader_gets_only_the_events_after_its_number(self) -> None:
        events = (QUEUED, STARTED, delta({"content": "a"}), delta({"content": "b"}), completed("stop"))
        frames = reported(*events)

        for after in range(len(frames) + 1):
            assert reported(*events, after=after) == frames[after + 1 :]

    @pytest.mark.parametrize("event", [rollback("0-1"), GAP], ids=lambda event: event.type.value)
    def test_a_stream_ends_with_an_error_if_shown_text_is_rolled_back(self, event: Event) -> None:
        answer = stream()
        answer.translate(delta({"content": "Hel"}))

        (frame,) = said(answer.translate(event))

        assert frame["type"] == "error"
        assert frame["code"] == frame["error"]["code"] == event.type.value
        assert frame["message"] == frame["error"]["message"] != ""
        assert frame["param"] is None
        assert answer.ended
        assert answer.failure is not None and answer.failure.retryable


class TestEnds:
    def test_a_failure_is_an_event_and_needs_no_failure_frame(self) -> None:
        answer = stream()
        frames = [answer.translate(event) for event in (QUEUED, STARTED, ended(EventType.FAILED, ERROR))]

        assert b"response.failed" in frames[-1]
        assert answer.failure_frame() == b""

    @pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
    def test_an_answer_that_was_cut_short_is_incomplete(self, reason: str, why: str) -> None:
        last = reported(delta({"content": "Hel"}), completed(reason))[-1]

        assert last["type"] == "response.incomplete"
        assert last["response"]["status"] == "incomplete"
        assert last["response"]["incomplete_details"] == {"reason": why}
        assert last["response"]["output"][0]["status"] == "incomplete"

    @pytest.mark.parametrize("reason", ["stop", "tool_calls", "something new", None])
    def test_any_other_reason_is_a_complete_answer(self, reason: str | None) -> None:
        last = reported(delta({"content": "Hel"}), completed(reason))[-1]

        assert (last["type"], last["response"]["incomplete_details"]) == ("response.completed", None)

    def test_a_cancelled_response_ends_as_incomplete_with_its_own_status(self) -> None:
        answer = stream()
        frames = said(answer.translate(delta({"content": "Hel"})) + answer.translate(ended(EventType.CANCELLED)))

        assert frames[-1]["type"] == "response.incomplete"
        assert frames[-1]["response"]["status"] == "cancelled"
        assert frames[-1]["response"]["incomplete_details"] is None
        assert frames[-1]["response"]["output"][0]["content"][0]["text"] == "Hel"
        assert answer.failure is not None

    @pytest.mark.parametrize("end", [EventType.FAILED, EventType.EXPIRED])
    def test_a_failed_response_contains_its_error(self, end: EventType) -> None:
        answer = stream()
        last = said(answer.translate(ended(end)))[-1]

        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "failed"
        error = {"code": "server_error", "message": "Too busy.", "param": None, "type": "server_error"}
        assert last["response"]["error"] == error
        assert answer.failure is not None and answer.failure.status == 503
        assert not answer.shown

    @pytest.mark.parametrize(
        ("param", "own"),
        [
            ("max_completion_tokens", "max_output_tokens"),
            ("messages[2].content", "input"),
            ("top_p", "top_p"),
            (None, None),
        ],
    )
    def test_an_error_names_the_blamed_field_by_its_name_in_responses(self, param: str | None, own: str | None) -> None:
        error = {"code": "invalid_request", "message": "It is wrong.", "retryable": False, "param": param}
        failed = ended(EventType.FAILED, error)
        answer, folded = stream(), whole(failed)

        answer.translate(failed)

        assert answer.failure is not None and answer.failure.param == own
        assert folded.failure is not None and folded.failure.param == own


class TestWhole:
    def test_the_body_equals_the_response_in_the_last_event(self) -> None:
        events = (QUEUED, STARTED, delta({"content": "Hel"}), delta({"content": "lo"}), completed("length"))
        folded = whole(*events)

        assert folded.ended
        assert folded.body() == reported(*events)[-1]["response"]

    def test_a_rollback_removes_the_output_after_its_target(self) -> None:
        folded = whole(
            delta({"content": "A"}, 1, 2),
            delta({"content": "B"}, 1, 3),
            rollback("1-2"),
            delta({"content": "C"}, 2, 3),
            completed("stop"),
        )

        assert folded.body()["output"][0]["content"][0]["text"] == "AC"
        assert folded.failure is None

    def test_a_gap_removes_all_output(self) -> None:
        folded = whole(QUEUED, delta({"content": "A"}), GAP, delta({"content": "B"}), completed("stop"))

        assert folded.body()["output"][0]["content"][0]["text"] == "B"

    @pytest.mark.parametrize(
        ("end", "status"),
        [(EventType.FAILED, "failed"), (EventType.EXPIRED, "failed"), (EventType.CANCELLED, "cancelled")],
    )
    def test_a_bad_end_is_a_failure_and_a_status(self, end: EventType, status: str) -> None:
        folded = whole(QUEUED, ended(end))

        assert folded.failure is not None and folded.failure.message == "Too busy."
        assert folded.body()["status"] == status

    def test_nothing_is_accepted_after_the_end(self) -> None:
        folded = whole(completed("stop"), delta({"content": "more"}))

        assert folded.body()["output"] == []

    def test_before_the_end_it_is_as_far_as_it_has_come(self) -> None:
        body = whole(QUEUED, STARTED, delta({"content": "Hel"})).body()

        assert (body["status"], body["output"][0]["status"], body["usage"]) == ("in_progress", "in_progress", None)
        assert whole(QUEUED, background=True).body() == response_object(
            ResponseOptions(JOB, "fast", background=True), "queued", []
        )


def test_frames_are_ascii_lines() -> None:
    event = Event(EventType.DELTA, EventId(1, 2), encode_data({"content": "é\u2028"}))

    frames = stream().translate(event)

    assert frames.isascii()
    assert all(len(frame.split(b"\n")) == 2 for frame in frames.split(b"\n\n")[:-1])


def in_epoch(event: Event, epoch: int) -> Event:
    """Move the event into another execution."""
    assert event.id is not None
    return event._replace(id=EventId(epoch, event.id.seq))


class TestForgottenEvents:
    """Test a server that was killed: it may have lost events that a reader has; the next epoch is far beyond."""

    OLD = (QUEUED, STARTED, delta({"content": "Hel"}, seq=2), delta({"content": "lo"}, seq=3))
    LEFT = OLD[:3]
    AGAIN = tuple(in_epoch(each, 200) for each in (STARTED, delta({"content": "p!"}, seq=2), completed("stop")))

    def last_number(self, *events: Event) -> int:
        return int(reported(*events)[-1]["sequence_number"])

    def test_a_reader_that_saw_a_forgotten_event_gets_an_error(self) -> None:
        seen = self.last_number(*self.OLD)

        frames = reported(*self.LEFT, *self.AGAIN, after=seen)

        assert names(frames) == ["error"]
        assert frames[0]["code"] == "gap"
        assert frames[0]["sequence_number"] > seen

    def test_a_reader_that_saw_only_remaining_events_continues(self) -> None:
        seen = self.last_number(*self.LEFT)

        frames = reported(*self.LEFT, *self.AGAIN, after=seen)

        assert "error" not in names(frames)
        assert frames[0]["sequence_number"] > seen
        assert frames[-1]["response"]["output"][0]["content"][0]["text"] == "Help!"

    def test_a_reader_that_saw_later_events_continues_after_any_of_them(self) -> None:
        frames = reported(*self.LEFT, *self.AGAIN)
        numbers = [frame["sequence_number"] for frame in frames]
        assert numbers == sorted(set(numbers))

        for position, number in enumerate(numbers, 1):
            assert reported(*self.LEFT, *self.AGAIN, after=number) == frames[position:]

    def test_a_whole_first_execution_may_be_forgotten(self) -> None:
        assert names(reported(QUEUED, *self.AGAIN, after=self.last_number(*self.OLD))) == ["error"]

    def test_an_execution_that_follows_the_last_one_numbers_on(self) -> None:
        next_one = [in_epoch(each, 2) for each in self.AGAIN]
        numbers = [frame["sequence_number"] for frame in reported(*self.OLD, *next_one)]

        assert numbers == list(range(len(numbers)))

    def test_numbers_of_the_last_epoch_that_there_can_be_are_exact_in_javascript(self) -> None:
        ticks_of_a_week = 7 * 86_400 * 20

        last = reported(QUEUED, *(in_epoch(each, ticks_of_a_week) for each in self.AGAIN))[-1]["sequence_number"]

        assert last < 2**53
        assert len(str(last)) <= 15
