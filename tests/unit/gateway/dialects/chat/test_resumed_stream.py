"""Test the rest of a chat's stream. A property test (tests/property) proves that it is exactly the rest."""

import json
from typing import Any

from gateway.dialects.chat.chunk_id import parse_chunk_id
from gateway.dialects.chat.resumed_stream import ResumedStream
from gateway.dialects.chat.stream import ChatOptions, ChatStream
from gateway.dialects.errors import Failure
from shared.model.events import EventType
from tests.unit.gateway.dialects.chat.chats import JOB, QUEUED, STARTED, completed, delta, ended, rollback, said

LOG = (QUEUED, STARTED, delta({"content": "a"}), delta({"content": "b"}, seq=3), completed("stop"))


def resume(cursor: str) -> ResumedStream:
    return ResumedStream(ChatStream(ChatOptions(JOB, "fast")), parse_chunk_id(cursor))


def rest_after(cursor: str) -> list[Any]:
    return said(b"".join(map(resume(cursor).translate, LOG)))


def test_the_end_of_a_stream_is_never_skipped() -> None:
    assert rest_after("1-9") == ["[DONE]"]


def test_an_event_without_a_chunk_will_do() -> None:
    assert len(rest_after("1-1")) == len(rest_after("0-0")) == len(rest_after("0-1")) == 5


def test_nothing_is_shown_until_the_cursor_is_reached() -> None:
    resumed = resume("1-3")

    assert b"".join(map(resumed.translate, LOG[:4])) == b""
    assert not resumed.shown
    assert resumed.translate(LOG[4])
    assert (resumed.shown, resumed.ended, resumed.failure) == (True, True, None)
    assert resumed.failure_frame() == b""
    assert resumed.translate(LOG[4]) == b""


def test_a_cursor_that_the_log_has_forgotten_is_a_failure() -> None:
    resumed = resume("1-4")

    assert b"".join(map(resumed.translate, LOG)) == b""
    assert resumed.ended
    assert resumed.failure is not None
    assert resumed.failure.code == "gap"
    assert said(resumed.failure_frame())[0]["error"]["code"] == "gap"


def test_a_failure_before_the_first_resumed_chunk_is_a_status() -> None:
    resumed = resume("1-3")

    assert b"".join(map(resumed.translate, (*LOG[:4], ended(EventType.FAILED)))) == b""
    assert resumed.failure is not None


def test_a_failure_after_a_chunk_is_a_frame_of_the_stream() -> None:
    resumed = resume("1-2")

    reported = said(b"".join(map(resumed.translate, (*LOG[:4], rollback("0-1")))))

    assert [("error" in each) for each in reported] == [False, True]


def test_a_stream_that_is_broken_off_has_an_error_frame_and_no_done_frame() -> None:
    failure = Failure(code="draining", message="This gateway is shutting down.", status=503, retryable=True)
    frame = resume("1-1").interruption(failure)
    assert json.loads(frame.removeprefix(b"data: "))["error"]["message"] == "This gateway is shutting down."
    assert b"[DONE]" not in frame
