"""Read an error in the dialect of its address, and list all that a test has stored."""

from typing import Any

import pytest

from tests.support.client import Answer
from tests.support.log_writer import PROMPT, JobSide

BODY = {"model": "scripted", "messages": PROMPT}
NATIVE, CHAT = "/v1/jobs", "/v1/chat/completions"
BOTH = pytest.mark.parametrize("path", [NATIVE, CHAT])


def problem(answer: Answer) -> dict[str, Any]:
    """Return the answer, which must be a problem (RFC 9457) with our fields."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["type"] == "about:blank"
    assert found["status"] == answer.status
    assert all(isinstance(found[name], str) and found[name] for name in ("title", "detail", "code"))
    assert found.keys() <= {"type", "title", "status", "detail", "code", "param"}
    return found


def envelope(answer: Answer) -> dict[str, Any]:
    """Return the answer, which must be OpenAI's error envelope."""
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"error"}
    found: dict[str, Any] = body["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    assert found["message"]
    assert isinstance(found["type"], str)
    return found


def said(answer: Answer, path: str) -> dict[str, Any]:
    """Return message, code and param of an error, in whichever dialect this address speaks."""
    assert answer.headers["x-request-id"]
    if path.startswith(NATIVE):
        found = problem(answer)
        return {"message": found["detail"], "code": found["code"], "param": found.get("param")}
    found = envelope(answer)
    return {name: found[name] for name in ("message", "code", "param")}


async def everything(writing: JobSide) -> list[bytes]:
    """Return all keys that this test has in Redis: lanes, jobs, idempotency keys; metrics come by themselves."""
    keys: list[bytes] = await writing.client.keys(f"{writing.keys.prefix}:*")
    reported = (writing.keys.processes, writing.keys.metrics(""), writing.keys.marker, writing.keys.clock)
    return sorted(key for key in keys if not key.decode().startswith(reported))
