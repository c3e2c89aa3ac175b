"""Test messages of the control channel: both sides agree on them, and an unknown one is ignored."""

import pytest

from shared.store.wire.control import CancelJob, ControlMessage, JobEnded, PermitReleased, encode_message, parse_message

JOB = "job_01m8ak3p63hb4vhzenqqsd3wjw"


@pytest.mark.parametrize(
    "message", [CancelJob(JOB), JobEnded(JOB), PermitReleased("p"), PermitReleased("p:1"), PermitReleased("")]
)
def test_a_message_is_parsed_as_it_was_encoded(message: ControlMessage) -> None:
    assert parse_message(encode_message(message)) == message


def test_messages_are_those_that_earlier_versions_read() -> None:
    assert encode_message(CancelJob(JOB)) == JOB.encode()
    assert encode_message(PermitReleased("p")) == b"place:p"


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"job", b"place", JOB.encode() + b"x", b"ended:", b"ended:job"])
def test_an_unknown_message_is_parsed_as_none(raw: bytes) -> None:
    assert parse_message(raw) is None
