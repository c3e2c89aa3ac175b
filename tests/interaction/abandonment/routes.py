"""Open each route by which a job is read, as its only reader.

Not here: the bodies that it sends (requests.py).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.interaction.abandonment.requests import (
    background,
    background_stream,
    chat,
    native,
    page,
    response,
    whole_chat,
    whole_response,
)
from tests.support.client import TIMEOUT_S, Response
from tests.support.gateway import until
from tests.support.system import System

SOON = {"X-Tailrace-Abandon-After": "0.2"}


@dataclass(frozen=True)
class Route:
    """A way to read a job: `asked` at `path`; if another call reads it, that is a `GET` of `read`."""

    path: str
    asked: Callable[..., dict[str, Any]]
    headers: dict[str, str]
    read: str | None = None
    asker_reads: bool = True

    async def open(self, system: System, receive_buffer: int | None = None, **script: Any) -> Response:
        """Return the only reader of a new job."""
        client, readers = system.client, system.gateway.services.hub
        body = self.asked(**script)
        asker = await client.send(
            "POST", self.path, json_body=body, headers=self.headers, receive_buffer=receive_buffer
        )
        job_id = await the_job(system)
        if self.read is None:
            reader = asker
        else:
            target = self.read.format(job=job_id, bare=job_id.removeprefix("job_"))
            reader = await client.send("GET", target, receive_buffer=receive_buffer)
            await until(lambda: len(readers.readers) == 1 + self.asker_reads)
            asker.close()
        await until(lambda: len(readers.readers) == 1)
        return reader


async def the_job(system: System) -> str:
    """Return the only job, once it is there."""
    async with asyncio.timeout(TIMEOUT_S):
        while not (jobs := (await system.client.get("/v1/jobs")).json()["data"]):
            pass
    job_id: str = jobs[0]["id"]
    return job_id


CHAT, RESPONSES, PAGE = "/v1/chat/completions", "/v1/responses", "/api/chat"
STREAMS = {
    "events": Route("/v1/jobs", native, {}, "/v1/jobs/{job}/events", asker_reads=False),
    "chat": Route(CHAT, chat, {}),
    "chat again": Route(CHAT, chat, {}, CHAT + "/chatcmpl-{bare}?stream=true"),
    "response": Route(RESPONSES, response, {}),
    "background response": Route(RESPONSES, background_stream, SOON),
    "response again": Route(RESPONSES, background, SOON, RESPONSES + "/resp_{bare}?stream=true", asker_reads=False),
    "page": Route(PAGE, page, SOON),
    "page again": Route(PAGE, page, SOON, PAGE + "/c1/stream"),
}
WHOLE = {
    "whole chat": Route(CHAT, whole_chat, {}),
    "whole chat again": Route(CHAT, whole_chat, {}, CHAT + "/{job}"),
    "whole response": Route(RESPONSES, whole_response, {}),
}
ROUTES = STREAMS | WHOLE
