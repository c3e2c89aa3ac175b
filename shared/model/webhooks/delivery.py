"""A delivery of a webhook: one event for one receiver, with the number of its attempts so far.

Pure. Not here: the order of deliveries and their claims (shared/store), and the attempts (worker/webhooks).
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from shared.model.ended_job import EndedJob
from shared.model.webhooks.event import event_body, job_event
from shared.model.webhooks.job_webhook import JobWebhook


class DeliveryStatus(StrEnum):
    """The state of a delivery."""

    OPEN = "open"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one receiver. `id` and `body` are the same in all attempts."""

    id: str
    tenant: str
    job: str
    event: str
    url: str
    body: str
    attempts: int = 0
    status: DeliveryStatus = DeliveryStatus.OPEN

    def encode(self) -> bytes:
        """Return the stored form."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Self:
        """Read the stored form."""
        fields = json.loads(stored)
        return cls(**{**fields, "status": DeliveryStatus(fields["status"])})


def delivery_of(job: EndedJob) -> Delivery | None:
    """Return the delivery of an ended job's own webhook; None if it has none for this end.

    The ids follow from the job's, so that a repeated completion makes no second delivery.
    """
    if not job.webhook:
        return None
    webhook, event = JobWebhook.decode(job.webhook), job_event(job.status)
    if event not in webhook.events:
        return None
    bare = job.id.removeprefix("job_")
    body = event_body(f"evt_{bare}", event, job.times.ended_ms // 1000, job.id)
    return Delivery(f"wh_{bare}", job.tenant, job.id, event, webhook.url, body.decode())
