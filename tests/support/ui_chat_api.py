"""Call `/api/chat` as a page of the AI SDK does, and read the parts of a message that it answers.

Not here: the jobs behind the turns (log_writer.py).
"""

import asyncio
import json
from typing import Any

from tests.support.client import Client
from tests.support.log_writer import JobSide, LogWriter

POST = "/api/chat"
STREAM, STOP = "/api/chat/c1/stream", "/api/chat/c1/stop"
DONE = b"data: [DONE]\n\n"
ABORTED = b'data: {"type":"abort"}\n\n' + DONE


def message(text: str, id_: str = "u1", role: str = "user") -> dict[str, Any]:
    return {"id": id_, "role": role, "parts": [{"type": "text", "text": text}]}


def asks(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the body of `DefaultChatTransport`."""
    history = list(messages) or [message("Hello?")]
    return {"model": "scripted", "id": "c1", "messages": history, "trigger": "submit-message", **fields}


def news(new: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Make the body of an app that sends only the new message."""
    return {"model": "scripted", "id": "c1", "message": new, "trigger": "submit-message", **fields}


def parts(frames: bytes) -> list[Any]:
    """Return the text of frames."""
    payloads = [frame.removeprefix(b"data: ") for frame in frames.split(b"\n\n")[:-1]]
    return ["[DONE]" if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def text_of(frames: bytes) -> str:
    return "".join(part.get("delta", "") for part in parts(frames) if part != "[DONE]")


async def answer(client: Client, writing: JobSide, body: dict[str, Any], *words: str) -> LogWriter:
    """Return a turn, from its question to its end."""
    async with client.calling(POST, body) as call:
        writer = await writing.take()
        await writer.say(*words)
        await writer.complete()
        await call.read_head()
        assert call.status == 200
        assert (await call.rest()).endswith(DONE)
    return writer


async def asked(writing: JobSide, writer: LogWriter) -> Any:
    """Return the messages that the model was asked with."""
    return (await writing.store.request(writer.job_id))["messages"]


async def until_cancelled(writing: JobSide, writer: LogWriter) -> None:
    async with asyncio.timeout(5):
        while (await writing.store.load(writer.job_id)).status.value != "cancelling":
            pass
