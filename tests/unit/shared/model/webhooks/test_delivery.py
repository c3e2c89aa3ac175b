"""Make the delivery of an ended job's webhook, and store it."""

import json

import pytest

from shared.model.ended_job import EndedJob, JobTimes
from shared.model.lifecycle import TERMINAL, State
from shared.model.webhooks.delivery import Delivery, DeliveryStatus, delivery_of
from shared.model.webhooks.event import JOB_EVENTS
from shared.model.webhooks.job_webhook import JobWebhook
from shared.model.webhooks.target import URL_CHARS

WEBHOOK = JobWebhook("https://hooks.example.com/x", JOB_EVENTS)


def ended(webhook: bytes, status: State = State.COMPLETED) -> EndedJob:
    times = JobTimes(ended_ms=7_900)
    return EndedJob("job_1", "alice", "low", "chat", "m", status, 1, None, "", times=times, webhook=webhook)


def test_a_job_without_a_webhook_has_no_delivery() -> None:
    assert delivery_of(ended(b"")) is None


def test_an_end_that_the_webhook_does_not_report_has_no_delivery() -> None:
    webhook = JobWebhook(WEBHOOK.url, ("job.failed",)).encode()
    assert delivery_of(ended(webhook)) is None
    assert delivery_of(ended(webhook, State.FAILED)) is not None


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_delivery_has_the_event_of_the_end_and_ids_of_the_job(status: State) -> None:
    delivery = delivery_of(ended(WEBHOOK.encode(), status))
    assert delivery is not None
    assert (delivery.id, delivery.tenant, delivery.url) == ("wh_1", "alice", WEBHOOK.url)
    assert json.loads(delivery.body) == {
        "id": "evt_1",
        "object": "event",
        "created_at": 7,
        "type": f"job.{status.value}",
        "data": {"id": "job_1"},
    }


def test_a_delivery_is_read_as_it_was_stored() -> None:
    delivery = Delivery("wh_1", "alice", "job_1", "job.failed", WEBHOOK.url, "{}", 3, DeliveryStatus.DEAD)
    assert Delivery.decode(delivery.encode()) == delivery


def test_a_webhook_is_read_as_it_was_stored() -> None:
    assert JobWebhook.decode(WEBHOOK.encode()) == WEBHOOK


def test_the_body_does_not_grow_with_the_url() -> None:
    delivery = delivery_of(ended(JobWebhook("https://" + "a" * URL_CHARS, JOB_EVENTS).encode()))
    assert delivery is not None
    assert len(delivery.body) < 200
