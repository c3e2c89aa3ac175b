"""Dead letters: the jobs that failed for good, as a list for a person to read.

A job that failed because of its request is not one of them: only its caller can change the request. The list holds ids
and when their jobs ended; a dead letter's content is its job's record, which is kept for longer than that of other
jobs. The record is right: an id whose record is not a dead letter is dropped when it is read. Not here: how a job is
requeued.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from redis.asyncio import Redis

from shared.model.errors import BadCursor, needs_a_person
from shared.model.jobs import code_in, is_job_id
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.store.client import Functions
from shared.store.keys import Keys

_FAILED = State.FAILED.value.encode()
# Before all dead letters, of which the list's first is the last that ended.
_FIRST = ("+inf", "")
_CURSOR = re.compile(r"([0-9]{1,15})-(job_.+)")


class Listed(NamedTuple):
    """An entry of the list, which is a cursor too: later entries ended earlier. `ended_ms` is since the Unix epoch."""

    job_id: str
    ended_ms: int

    def __str__(self) -> str:
        return f"{self.ended_ms}-{self.job_id}"

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """The inverse of `str`.

        Raises:
            BadCursor: it is not a cursor of this list.
        """
        found = _CURSOR.fullmatch(cursor)
        if found is None or not is_job_id(found[2]):
            raise BadCursor("after must be the `next` of a former page.", param="after")
        return cls(found[2], int(found[1]))


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A job that has just become a dead letter, and why."""

    job_id: str
    tenant: str
    lane: str
    code: str
    attempts: int


class DeadLetters:
    """All dead letters of all tenants."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        retention_s: float,
        dead_letter_retention_s: float,
        most: int,
        most_of_tenant: int,
        metrics: Metrics | None = None,
    ) -> None:
        """At most `most` are kept, and `most_of_tenant` of one tenant.

        They are kept for `dead_letter_retention_s` after their end, or for the `retention_s` of other jobs if that is
        more.
        """
        self._over = (metrics or Metrics()).refused.of("dead_letters")
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._retention_ms = int(retention_s * 1000)
        self._kept_ms = int(max(retention_s, dead_letter_retention_s) * 1000)
        self._most, self._most_of_tenant = most, most_of_tenant
        self._lists = [keys.dead_letters, keys.open_dead_letters, keys.dead_letter_owners, keys.dead_letter_tenants]

    async def add(self, job_id: str) -> NewDeadLetter | None:
        """Make a job that has ended a dead letter, if it failed, and not by its request's fault. Idempotent.

        Returns None if it is not a dead letter, or was one before.
        """
        record = self._keys.job(job_id).record
        fields = ["status", "ended", "hidden", "dismissed", "keep", "outcome", "tenant", "lane", "attempts"]
        status, ended, hidden, dismissed, keep, outcome, *about = await self._client.hmget(record, fields)  # type: ignore[misc]
        if status != _FAILED or hidden or dismissed or keep or not needs_a_person(code := _code(outcome)):
            return None
        tenant, lane, attempts = ((each or b"").decode("utf-8", "replace") for each in about)
        args = (job_id, ended, self._kept_ms, self._most, tenant, self._keys.dead_letters_of, self._most_of_tenant)
        added, *over = await self._functions.call("add_dead_letter", self._lists, *args)
        self._over.add(len(over))
        for each in over:
            await self.dismiss(each.decode())
        if not added:
            return None
        return NewDeadLetter(job_id, tenant, lane, code, int(attempts or 0))

    async def listed(self, after: Listed | None, limit: int, *, only_open: bool) -> list[Listed]:
        """Those that ended before `after`, the last one first; `only_open`: without those that were requeued."""
        key = self._keys.open_dead_letters if only_open else self._keys.dead_letters
        job, ended = _FIRST[::-1] if after is None else after
        flat = await self._functions.call("letters", [key], ended, job, limit)
        return [Listed(job.decode(), int(at)) for job, at in zip(flat[::2], flat[1::2], strict=True)]

    async def place(self, job_id: str) -> Listed | None:
        """Its place in the list; None if it is not there."""
        score = await self._client.zscore(self._keys.dead_letters, job_id)
        return None if score is None else Listed(job_id, int(score))

    async def drop(self, job_ids: Iterable[str]) -> None:
        """Take ids off the list: their jobs are not dead letters any more."""
        if ids := list(job_ids):
            await self._functions.call("drop_letters", self._lists, self._keys.dead_letters_of, *ids)

    async def requeued(self, job_id: str, as_job_id: str) -> None:
        """Record the job that repeats a dead letter's request. Idempotent; the first call wins."""
        await self._functions.call("requeued", [self._keys.job(job_id).record], as_job_id)
        await self._client.zrem(self._keys.open_dead_letters, job_id)

    async def dismiss(self, job_id: str) -> bool:
        """Make a dead letter an ordinary job that has failed; False if it never was one. Idempotent."""
        keys = self._keys.job(job_id)
        outcome: bytes | None = await self._client.hget(keys.record, "outcome")  # type: ignore[misc]
        if not needs_a_person(_code(outcome)):
            await self.drop([job_id])
            return False
        every = [keys.record, keys.log, keys.request, keys.result]
        dismissed = bool(await self._functions.call("dismiss", every, self._retention_ms))
        await self.drop([job_id])
        return dismissed

    async def open(self) -> int:
        """Count the dead letters that were not requeued or dismissed."""
        return int(await self._functions.call("open_letters", [self._keys.open_dead_letters], self._kept_ms))


def _code(outcome: bytes | None) -> str:
    try:
        return code_in(json.loads(outcome or b"{}"))
    except (AttributeError, ValueError):  # a defect of another version
        return ""
