"""Test interrupted streams of running jobs: each dialect states the reason, and none looks whole."""

import json

from gateway.dialects.ai_sdk.stream import UiMessageStream
from gateway.dialects.chat.stream import ChatOptions, ChatStream
from gateway.dialects.errors import Failure
from gateway.dialects.responses.object import ResponseOptions
from gateway.dialects.responses.stream import ResponseStream
from tests.unit.gateway.dialects.chat.chats import JOB, QUEUED, STARTED, delta

WHY = "This gateway is shutting down."
FAILURE = Failure(code="draining", message=WHY, status=503, retryable=True)
LOG = (QUEUED, STARTED, delta({"content": "a"}))


def test_a_chat_stream_has_the_error_and_no_end() -> None:
    frame = ChatStream(ChatOptions(JOB, "fast")).interruption(FAILURE)

    assert json.loads(frame.removeprefix(b"data: "))["error"]["message"] == WHY
    assert b"[DONE]" not in frame


def test_a_response_stream_has_an_error_of_the_last_number_so_that_the_rest_follows() -> None:
    stream = ResponseStream(ResponseOptions(JOB, "fast"))
    shown = b"".join(map(stream.translate, LOG)).decode()
    last = json.loads(shown.strip().rsplit("data: ", 1)[1])["sequence_number"]

    name, data = stream.interruption(FAILURE).decode().strip().split("\n")

    assert name == "event: error"
    said = json.loads(data.removeprefix("data: "))
    assert (said["sequence_number"], said["message"]) == (last, WHY)


def test_a_ui_message_stream_has_an_error_part() -> None:
    said = json.loads(UiMessageStream("m1").interruption(FAILURE).removeprefix(b"data: "))

    assert said == {"type": "error", "errorText": WHY}
