"""Test the redaction of log events: secrets are hidden in any field, and nothing else changes."""

import math
from typing import Any

import pytest

from shared.model.redaction import redact, redact_fields
from shared.model.text import escaped, whole


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/v1/jobs/job_1/events?last_event_id=1-2&token=a.b_c-d", "/v1/jobs/job_1/events?last_event_id=1-2&token=***"),
        ("http://127.0.0.1:8080/#key=sk-tailrace-dev-abc", "http://127.0.0.1:8080/#key=***"),
        ('{"authorization": "BEARER abc.def"}', '{"authorization": "BEARER ***"}'),
        ("the key sk-proj-12345 was refused", "the key sk-*** was refused"),
        ("redis://user:pass@host:6379/0", "redis://user:***@host:6379/0"),
        (
            "job_01jd3k tokens=12 a task-force at 10:30 http://host:80/a@b",
            "job_01jd3k tokens=12 a task-force at 10:30 http://host:80/a@b",
        ),
    ],
)
def test_a_text_is_redacted_without_harming_the_rest(text: str, hidden: str) -> None:
    assert redact(text) == hidden


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"authorization": "Bearer hunter2"}, {"authorization": "Bearer ***"}),
        (["a", ("redis://:hunter2@host", 1)], ["a", ["redis://:***@host", 1]]),
        (ConnectionError("sk-hunter2"), "ConnectionError('sk-***')"),
        ({"sk-hunter2": 1}, {"sk-***": 1}),
    ],
    ids=["mapping", "list", "exception", "name"],
)
def test_secrets_are_hidden_in_values_of_any_type(value: object, shown: object) -> None:
    assert redact_fields({"value": value}, whole) == {"value": shown}


@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, "job_01jd3k", "", "two words"])
def test_values_that_hide_nothing_stay_as_they_are(value: object) -> None:
    shown: dict[str, Any] = redact_fields({"value": value}, escaped)
    assert shown == {"value": value}
    assert type(shown["value"]) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_has_no_form_for_become_texts(value: float) -> None:
    assert redact_fields({"value": value}, whole) == {"value": repr(value)}


def test_names_and_texts_are_written_as_the_caller_writes_them() -> None:
    assert redact_fields({"a\x1b": "b\x9b"}, escaped) == {"a\\x1b": "b\\x9b"}
