"""Name the events of ended jobs, and write their bodies."""

import pytest

from shared.model.lifecycle import TERMINAL, State
from shared.model.webhooks.event import JOB_EVENTS, RESPONSE_EVENTS, event_body, job_event, response_event


def test_each_end_of_a_job_has_an_event() -> None:
    assert {job_event(status) for status in TERMINAL} == set(JOB_EVENTS)


@pytest.mark.parametrize(
    ("status", "finish_reason", "expected"),
    [
        (State.COMPLETED, "stop", "response.completed"),
        (State.COMPLETED, "", "response.completed"),
        (State.COMPLETED, "length", "response.incomplete"),
        (State.COMPLETED, "content_filter", "response.incomplete"),
        (State.FAILED, "length", "response.failed"),
        (State.CANCELLED, "", "response.cancelled"),
        (State.EXPIRED, "", "response.failed"),
    ],
)
def test_a_response_has_the_event_of_its_end(status: State, finish_reason: str, expected: str) -> None:
    assert response_event(status, finish_reason) == expected
    assert expected in RESPONSE_EVENTS


def test_the_body_names_the_job_in_openais_form() -> None:
    assert event_body("evt_1", "job.failed", 7, "job_1") == (
        b'{"id":"evt_1","object":"event","created_at":7,"type":"job.failed","data":{"id":"job_1"}}'
    )
