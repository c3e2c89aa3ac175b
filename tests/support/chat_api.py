"""Call `/v1/chat/completions`, and read what it answers: bodies, frames and errors.

Not here: the jobs behind the calls (log_writer.py).
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.streams.reader import Reader
from shared.model.events import EventId
from shared.process.clock import SystemClock
from tests.support.client import Client, Response
from tests.support.gateway import Gateway, until
from tests.support.log_writer import PROMPT, JobSide, LogWriter

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}
STREAM = {**BODY, "stream": True}
DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def calling(client: Client, body: dict[str, Any], **options: Any) -> AsyncIterator[Response]:
    """Provide a call before its headers are read."""
    async with client.calling(CHAT, body, **options) as response:
        yield response


async def reader_at(gateway: Gateway, position: EventId) -> Reader:
    """Return the only reader, once it has taken the events up to this one."""
    await until(lambda: [reader._subscriber.sent for reader in gateway.services.hub.readers] == [position])
    return gateway.services.hub.readers[0]


def content(frame: bytes) -> str | None:
    data: dict[str, Any] = json.loads(frame.removeprefix(b"data: ").partition(b"\n")[0])
    text: str | None = data["choices"][0]["delta"].get("content")
    return text


def error_in(body: bytes) -> dict[str, Any]:
    """Return the error of an envelope."""
    found: dict[str, Any] = json.loads(body)["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


async def abandoned_in_s(writing: JobSide, writer: LogWriter) -> float:
    """Return in how many seconds the job is given up."""
    job = await writing.store.load(writer.job_id)
    return (job.abandon_ms - SystemClock().wall_ms()) / 1000
