"""Read the webhook of a job: its URL and its events, or a refusal that names the field."""

from typing import Any

import pytest

from shared.model.errors import InvalidRequest
from shared.model.webhooks.event import JOB_EVENTS
from shared.model.webhooks.job_webhook import JobWebhook
from tests.unit.gateway.specs.specs import BODY, native, with_

URL = "https://hooks.example.com/x"


def test_a_job_without_the_field_has_no_webhook() -> None:
    assert native(BODY).webhook == native(with_(webhook=None)).webhook == b""


def test_a_webhook_reports_every_end_unless_it_names_events() -> None:
    every = native(with_(webhook={"url": URL})).webhook
    some = native(with_(webhook={"url": URL, "events": ["job.failed", "job.completed"]})).webhook
    assert JobWebhook.decode(every) == JobWebhook(URL, JOB_EVENTS)
    assert JobWebhook.decode(some) == JobWebhook(URL, ("job.completed", "job.failed"))


def test_the_provider_does_not_get_the_webhook() -> None:
    assert b"hooks" not in native(with_(webhook={"url": URL})).request


@pytest.mark.parametrize(
    ("webhook", "param", "hint"),
    [
        (URL, "webhook", "must be an object"),
        ({"url": URL, "secret": "s"}, "webhook", "must be an object"),
        ({}, "webhook.url", "like https://hooks.example.com/tailrace"),
        ({"url": "http://10.0.0.1/"}, "webhook.url", "10.0.0.1 is not public"),
        ({"url": URL, "events": []}, "webhook.events", "one of: job.completed"),
        ({"url": URL, "events": "job.failed"}, "webhook.events", "must be a list"),
        ({"url": URL, "events": ["job.x"]}, "webhook.events", "job.expired"),
        ({"url": URL, "events": [["job.failed"]]}, "webhook.events", "job.expired"),
    ],
)
def test_a_wrong_webhook_is_refused_with_the_field_and_its_right_form(webhook: Any, param: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        native(with_(webhook=webhook))
    assert refused.value.param == param
    assert hint in str(refused.value)
