"""Ask for embeddings, and compare the vectors of a result with those of the scripted provider."""

import base64
import hashlib
import json
import struct
from typing import Any

from shared.model.events import EventType
from tests.support.client import Client
from tests.support.system import Story, System
from worker.upstream.providers.scripted import embed

EMBEDDINGS = "/v1/embeddings"
MODEL = "scripted"


def body(input_: Any = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": input_, **fields}


def scripted(**script: Any) -> str:
    """Return an input that makes the provider do this."""
    return json.dumps({"script": script})


def vectors_of(inputs: list[Any], **fields: Any) -> bytes:
    """Return the scripted provider's vectors of these inputs, as the bytes of a result."""
    items = embed({"input": inputs, "encoding_format": "base64", **fields})["data"]
    return b"".join(base64.b64decode(item["embedding"]) for item in items)


def bytes_of(listed: dict[str, Any]) -> bytes:
    """Return the vectors of a list in floats, as the bytes of a result."""
    return b"".join(struct.pack(f"<{len(each['embedding'])}f", *each["embedding"]) for each in listed["data"])


async def result_of(client: Client, job_id: str, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/v1/jobs/{job_id}/result{query}")
    assert answer.status == 200, answer.body
    listed: dict[str, Any] = answer.json()
    return listed


async def submit(system: System, inputs: Any, **fields: Any) -> str:
    return await system.submit({"kind": "embeddings", "model": MODEL, "input": inputs, **fields})


def progress_of(story: Story) -> list[int]:
    return [event.json()["done"] for event in story.events if event.type is EventType.PROGRESS]


def proves(end: dict[str, Any], vectors: bytes) -> bool:
    """Return whether the terminal event's `result` is about these bytes."""
    reported: str = end["result"]["sha256"]
    return reported == hashlib.sha256(vectors).hexdigest()
