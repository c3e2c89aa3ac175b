"""Read the field `webhook` of `POST /v1/jobs`: the URL of a receiver, and the events that it gets.

Pure. Not here: the rules for URLs (shared/model/webhooks/target.py).
"""

from collections.abc import Mapping
from typing import Final

from shared.model.errors import InvalidRequest
from shared.model.webhooks.event import JOB_EVENTS
from shared.model.webhooks.job_webhook import JobWebhook
from shared.model.webhooks.target import AllowedTargets, read_target

_FIELDS: Final = ("url", "events")


def read_webhook(value: object, allowed: AllowedTargets) -> bytes:
    """Return the webhook as a job's record has it; empty if the field is absent.

    Raises:
        InvalidRequest: names the field and its valid values.
    """
    if value is None:
        return b""
    if not isinstance(value, Mapping) or not set(value) <= set(_FIELDS):
        raise InvalidRequest(
            "webhook must be an object with the URL of its receiver as url, and perhaps a list of events.",
            param="webhook",
        )
    target = read_target(value.get("url"), allowed, "webhook.url")
    return JobWebhook(target.url, _read_events(value.get("events"))).encode()


def _read_events(value: object) -> tuple[str, ...]:
    if value is None:
        return JOB_EVENTS
    if not isinstance(value, list) or not value or not all(event in JOB_EVENTS for event in value):
        raise InvalidRequest(
            f"webhook.events must be a list of at least one of: {', '.join(JOB_EVENTS)}.", param="webhook.events"
        )
    return tuple(event for event in JOB_EVENTS if event in value)
