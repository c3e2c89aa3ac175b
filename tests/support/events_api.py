"""Read `GET /v1/jobs/{id}/events` as a client does, with or without a cursor.

Not here: the job whose events they are (log_writer.py).
"""

import re

from shared.model.events import Event
from tests.support.client import Client
from tests.support.log_writer import LogWriter

RETRY = re.compile(rb"retry: \d{3,4}\n\n")
ALL = ["0-1", "1-1", "1-2", "1-3", "1-4", "1-5", "1-6"]
"""The events of the fixture `finished`; 1-2 to 1-5 are in one entry of its log."""


def address(job_id: str, **query: str) -> str:
    return f"/v1/jobs/{job_id}/events" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


async def events(client: Client, writer: LogWriter, cursor: str | None = None) -> list[Event]:
    """Return the events that a reader with this cursor gets of a job that has ended."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    async with client.stream("GET", address(writer.job_id), headers=headers) as stream:
        assert stream.status == 200
        got = await stream.events()
        assert stream.complete
    return got


def ids(got: list[Event]) -> list[str]:
    return [str(event.id) for event in got]
