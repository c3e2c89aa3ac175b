"""The webhook that one job has: the URL of its receiver, and the events that it reports.

Pure. Not here: reading it from a request (gateway/specs/job_webhook.py).
"""

import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """A receiver of a job's end."""

    url: str
    events: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the form in a job's record."""
        return json.dumps({"url": self.url, "events": self.events}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Self:
        """Read the form in a job's record."""
        fields = json.loads(stored)
        return cls(fields["url"], tuple(fields["events"]))
