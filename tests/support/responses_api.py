"""Call `/v1/responses`, and read what it answers: bodies, addresses, frames and errors.

Not here: the jobs behind the responses (log_writer.py).
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.client import Answer, Client, Response
from tests.support.log_writer import JobSide, LogWriter

RESPONSES = "/v1/responses"
BODY: dict[str, Any] = {"model": "scripted", "input": "Hello?"}
STREAM = {**BODY, "stream": True}
BACKGROUND = {**BODY, "background": True}
BOTH = {**BACKGROUND, "stream": True}
BOB = "sk-bob"


def id_of(writer: LogWriter) -> str:
    return writer.job_id.replace("job_", "resp_")


def at(writer: LogWriter, rest: str = "") -> str:
    return f"{RESPONSES}/{id_of(writer)}{rest}"


def data_of(frame: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(frame.split(b"\n")[1].removeprefix(b"data: "))
    return decoded


def names(frames: list[bytes]) -> list[str]:
    return [data_of(frame)["type"].removeprefix("response.") for frame in frames]


async def all_frames(response: Response) -> list[bytes]:
    """Return the frames from here to a proper end."""
    frames = []
    while frame := await response.frame():
        frames.append(frame)
    assert response.complete
    return frames


async def created(client: Client, writing: JobSide, **fields: Any) -> LogWriter:
    """Return a background response that runs."""
    answer = await client.post(RESPONSES, {**BACKGROUND, **fields})
    assert answer.status == 200, answer.body
    writer = await writing.take()
    assert answer.json()["id"] == id_of(writer)
    return writer


async def answered(client: Client, writing: JobSide, *said: Any, **fields: Any) -> LogWriter:
    """Return a background response that is complete."""
    writer = await created(client, writing, **fields)
    await writer.say(*said)
    await writer.complete()
    return writer


@asynccontextmanager
async def streaming(client: Client, target: str, after: int | None = None) -> AsyncIterator[Response]:
    """Provide a stream of all events, or of those after a number."""
    query = "?stream=true" if after is None else f"?stream=true&starting_after={after}"
    async with client.stream("GET", target + query) as response:
        assert response.status == 200
        yield response


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return answer.status, error["code"], error["param"]
