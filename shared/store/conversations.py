"""Conversations: the job that answers in a chat now, and the place of the earlier turns.

A conversation keeps no words: they are in its last job, as long as that can be read. A job is known here before it is
admitted (`begin`), and answers once it is recorded (`commit`), so that a stop finds it at every moment. Of two
tabs, the later one wins, which the functions decide. Not here: jobs, dialects.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from shared.model.events import encode_data
from shared.store.client import Functions
from shared.store.keys import Keys

# Longer than its last job can be read, once more for the same time: a page that returns then and sends only what is
# new gets the error that the rest is gone, for it would not notice that the model knows nothing of it.
_RETENTIONS: Final = 2

TurnSize = tuple[str, int]
"""A message's id in the page, and how many messages of the job's request say it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it is. `last` has its words, in `turns`; `active` are the jobs that may answer, the youngest
    first: whether one does, its record says."""

    last: str | None
    turns: Sequence[TurnSize]
    active: Sequence[str]


class Conversations:
    """All conversations. Each is one tenant's: another's looks like none."""

    def __init__(self, client: Redis, keys: Keys, *, retention_s: float) -> None:
        """A job can be read for `retention_s` after its end."""
        self._retention_s = retention_s
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def load(self, tenant: str, chat_id: str) -> Conversation:
        """Read a conversation; an unknown or expired one is empty."""
        key = self._keys.conversation(tenant, chat_id)
        following, job, last, turns = await self._client.hmget(key, ["next", "job", "last", "turns"])  # type: ignore[misc]
        return Conversation(
            last=None if last is None else last.decode(),
            turns=[(str(message_id), int(size)) for message_id, size in json.loads(turns or b"[]")],
            active=[each.decode() for each in (following, job) if each is not None],
        )

    async def begin(
        self, tenant: str, chat_id: str, job_id: str, *, last: str | None, whole: bool, timeout_s: float
    ) -> list[str] | None:
        """A job is about to be admitted: the jobs that were until now, and are to be cancelled.

        None if the conversation has continued since its caller read that `last` was its last job. A caller that sends
        the `whole` conversation does not need it.
        """
        key = self._keys.conversation(tenant, chat_id)
        expected = "*" if whole else last or ""
        arguments = (job_id, expected, *self._kept(tenant, timeout_s))
        begun, former = await self._functions.call("chat_begin", [key], *arguments)
        return _named(former) if begun else None

    async def commit(
        self, tenant: str, chat_id: str, job_id: str, turns: Sequence[TurnSize], *, timeout_s: float
    ) -> list[str] | None:
        """The job that has begun is recorded: the jobs that answered until now, and are to be cancelled.

        None if it was stopped meanwhile, or another one began: then it is the one to be cancelled.
        """
        key = self._keys.conversation(tenant, chat_id)
        arguments = (job_id, encode_data(list(turns)), *self._kept(tenant, timeout_s))
        done, former = await self._functions.call("chat_commit", [key], *arguments)
        return _named(former) if done else None

    def _kept(self, tenant: str, timeout_s: float) -> tuple[int, str]:
        return int((timeout_s + _RETENTIONS * self._retention_s) * 1000), self._keys.kept_bytes(tenant)

    async def stop(self, tenant: str, chat_id: str, job_id: str | None = None) -> list[str]:
        """Record that no job answers any more, or not this one; return those to cancel."""
        key = self._keys.conversation(tenant, chat_id)
        arguments = (job_id or "", self._keys.kept_bytes(tenant))
        stopped: list[bytes] = await self._functions.call("chat_stop", [key], *arguments)
        return [job.decode() for job in stopped]


def _named(job: bytes) -> list[str]:
    return [job.decode()] if job else []
