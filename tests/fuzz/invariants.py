"""The invariants of each answer and of the stored keys, for any request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from tests.fuzz.requests import CALLERS, Asked
from tests.support.client import Answer

_NATIVE = re.compile(r"/v1/(jobs|dead-letters|webhook_secret|workflows)(/|$)")
_ENVELOPE = {"message", "type", "param", "code"}
_PROBLEM = {"type", "title", "status", "detail", "code"}
# Written by the processes for themselves, whatever callers do.
_HOUSEKEEPING = re.compile(
    r":(worker|metrics|processes|clock|models|walked|walking|marker|bell|slots|secret|secrets|circuits)\b"
)


def wrong_with(asked: Asked, answer: Answer) -> str | None:
    """Return the fault of an answer; None if it has none."""
    if answer.status >= 500 and answer.status != 501:
        return f"an answer of {answer.status}"
    if answer.headers.get("x-content-type-options") != "nosniff":
        return "no nosniff"
    if any(not char.isprintable() for _, value in answer.raw_headers for char in value):
        return "a control character in a header"
    if answer.status < 400 or asked.method == "HEAD":
        return None
    return _wrong_envelope(asked, answer)


def _wrong_envelope(asked: Asked, answer: Answer) -> str | None:
    path, kind = asked.path, answer.headers.get("content-type", "")
    if path.startswith("/api/"):
        return None if kind.startswith("text/plain") and answer.body else f"a {kind} in place of a sentence"
    try:
        body = answer.json()
    except ValueError:
        return f"an error that is not JSON: {answer.body[:80]!r}"
    if path.startswith("/v1/") and not _NATIVE.match(path):
        error = body.get("error") if isinstance(body, dict) else None
        return None if isinstance(error, dict) and error.keys() == _ENVELOPE else f"no envelope of OpenAI's: {body}"
    is_problem = kind == "application/problem+json" and body.keys() >= _PROBLEM and body["status"] == answer.status
    return None if is_problem else f"no problem of RFC 9457: {body}"


@dataclass(frozen=True)
class Stored:
    """The contents of Redis under a prefix: the names of all keys, and the values of each tenant's own keys."""

    keys: frozenset[str]
    tenants: Mapping[str, Mapping[str, Any]]

    @classmethod
    async def now(cls, client: Redis, prefix: str) -> "Stored":
        """Look."""
        names = [key.decode("utf-8", "replace") for key in await client.keys(f"{prefix}:*")]
        kept = frozenset(name for name in names if not _HOUSEKEEPING.search(name.removeprefix(prefix)))
        tenants: dict[str, dict[str, Any]] = {}
        for tenant in filter(None, CALLERS):
            own = sorted(name for name in names if name.startswith(f"{prefix}:tenant:{tenant}:"))
            tenants[tenant] = {name: await client.dump(name) for name in own}
        return cls(kept, tenants)

    def added_since(self, before: "Stored") -> list[str]:
        """Return the keys that have come."""
        return sorted(self.keys - before.keys)

    def others_moved_since(self, before: "Stored", caller: str) -> list[str]:
        """Return the tenants other than the caller with own keys that have changed."""
        return [
            tenant for tenant in self.tenants if tenant != caller and self.tenants[tenant] != before.tenants[tenant]
        ]


def job_of(answer: Answer) -> str | None:
    """Return the job that an answer is about."""
    named = answer.headers.get("x-tailrace-job")
    if named is None and answer.status == 202:
        named = json.loads(answer.body).get("id")
    return named
