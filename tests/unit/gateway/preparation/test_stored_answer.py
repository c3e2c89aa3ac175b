"""Test stored jobs as the dialects show them: from the bytes of the request and of the log."""

import json

import pytest

from gateway.dialects.chat.stream import ChatOptions
from gateway.preparation.stored_answer import (
    completion_options,
    encoded_output,
    encoded_response,
    kept_fields,
    listed_input,
    options_of,
    whole_response,
)
from shared.model.errors import BrokenJob
from shared.model.jobs import KEPT, new_job_id
from tests.support.logged import completed_log, ended_job

JOB = new_job_id(1_700_000_000_000, 42)
ECHO = {"instructions": "Be brief.", "background": True}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
REQUEST = json.dumps({"model": "m", "n": 2, "messages": MESSAGES, KEPT: ECHO}).encode()
LOG = completed_log({"content": "Hi"}, {"content": " there."})


def test_a_completion_is_shown_with_the_options_of_its_request() -> None:
    assert completion_options(REQUEST, ChatOptions, JOB, "m") == ChatOptions(JOB, "m", choices=2)


def test_the_kept_fields_of_a_request_are_those_that_a_response_repeats() -> None:
    kept = kept_fields(REQUEST)

    assert (kept.echo, kept.has_messages) == (ECHO, True)
    assert not kept_fields(b'{"model":"m"}').has_messages


def test_a_response_is_made_of_the_log() -> None:
    options = options_of(ended_job(JOB), ECHO)
    whole = whole_response(options, LOG)

    assert (whole["status"], whole["background"], whole["instructions"]) == ("completed", True, "Be brief.")
    assert json.loads(encoded_response(options, LOG)) == whole
    assert json.loads(encoded_output(options, LOG)) == whole["output"]
    assert whole["output"][0]["content"][0]["text"] == "Hi there."


def test_a_job_of_another_dialect_is_a_background_response_if_it_survives_its_caller() -> None:
    assert options_of(ended_job(JOB, on_disconnect="continue"), {}).background
    assert not options_of(ended_job(JOB, on_disconnect="cancel"), {}).background


def test_the_input_is_listed_without_the_instructions() -> None:
    (listed,) = listed_input(REQUEST, JOB)

    assert (listed["role"], listed["content"]) == ("user", [{"type": "input_text", "text": "Hello?"}])
    assert listed_input(b'{"model":"m"}', JOB) == []


@pytest.mark.parametrize("request_", [b"", b"[]", b"{"])
def test_a_request_that_cannot_be_read_is_an_error(request_: bytes) -> None:
    with pytest.raises(BrokenJob):
        kept_fields(request_)
