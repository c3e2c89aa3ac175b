"""The jobs that come after others, on the jobs' side: register a child with its parents, and settle the children of an
ended job, each in one atomic step of functions/parents.lua.

Not here: a child's entry in the queue (waiting_jobs.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from shared.model.errors import ParentFailed, ParentGone, problem_of
from shared.model.events import encode_data
from shared.model.jobs import LONGEST_TIMEOUT_S, Job, Place
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.model.parents import GATE_PREFIX, ParentEnd, parent_end_of
from shared.store.client import Functions
from shared.store.job_counts import JobCounts
from shared.store.jobs import EMPTY_SHA256
from shared.store.keys import Keys

_MISSING: Final = b"missing"
# The functions replace it with the name that the child has for its parent.
_NAME: Final = "@NAME@"
_LIST_KEPT_MS: Final = int(LONGEST_TIMEOUT_S * 1000)


@dataclass(frozen=True, slots=True)
class Child:
    """A child after the end of a parent."""

    place: Place
    status: State
    changed: bool
    """Whether it has had this status since this call."""


class Children:
    """The children of all jobs."""

    def __init__(self, client: Redis, keys: Keys, *, retention_s: float, metrics: Metrics | None = None) -> None:
        """Store a child that fails with its parent for `retention_s` after its end."""
        metrics = metrics or Metrics()
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._retention_ms = int(retention_s * 1000)
        self._counts = JobCounts(metrics)
        self._released = metrics.released

    async def register(self, child: Job) -> dict[str, ParentEnd]:
        """Register a child with the parents that it awaits; return those that have ended. Idempotent."""
        parents = child.awaited
        keys = [key for parent in parents for key in self._keys.parent(parent)]
        answers = await self._functions.call("register_child", keys, child.id, child.tenant, _LIST_KEPT_MS)
        ends = {parent: _end_of(answer) for parent, answer in zip(parents, answers, strict=True)}
        return {parent: end for parent, end in ends.items() if end is not None}

    async def listed(self, parent_id: str, most: int) -> list[str]:
        """Return up to `most` children that are in a job's list."""
        ids = await self._client.zrange(self._keys.job(parent_id).children, 0, most - 1)
        return [child.decode() for child in ids]

    async def unlist(self, parent_id: str, child_ids: Sequence[str]) -> None:
        """Remove settled children from a job's list."""
        await self._client.zrem(self._keys.job(parent_id).children, *child_ids)

    async def settle(self, parent_id: str, end: ParentEnd, child_ids: Sequence[str]) -> list[Child]:
        """Settle the end of one parent with these children; return those that are stored. Idempotent.

        A child that is queued has no parent left to wait for, and needs its entry in the lane.
        """
        keys = [
            key
            for job in map(self._keys.job, child_ids)
            for key in (job.record, job.log, job.channel, job.request, job.result)
        ]
        outcome = _outcome(parent_id, end)
        answers = await self._functions.call("settle_children", keys, parent_id, end.value, outcome, self._retention_ms)
        found = zip(child_ids, answers, strict=True)
        children = [_child_of(child_id, answer) for child_id, answer in found if answer != [_MISSING]]
        for child in (each for each in children if each.changed):
            if child.status is State.QUEUED:
                self._released.of().add()
            else:
                self._counts.ended(child.status, outcome)
        return children


def _end_of(answer: bytes) -> ParentEnd | None:
    """Return the end in the answer about a parent; None if it has not ended."""
    return ParentEnd.GONE if answer == _MISSING else parent_end_of(State(answer.decode()))


def _child_of(child_id: str, answer: Sequence[Any]) -> Child:
    status, lane, tenant, changed = answer
    return Child(Place(child_id, lane.decode(), False, tenant.decode()), State(status.decode()), bool(changed))


def _outcome(parent_id: str, end: ParentEnd) -> bytes:
    """Return the terminal data of a child that fails with its parent, without its count of events."""
    if parent_id.startswith(GATE_PREFIX):
        error: ParentGone | ParentFailed = ParentGone(f"The workflow {parent_id} could not be recorded.")
    elif end is ParentEnd.GONE:
        error = ParentGone(f"The job {parent_id} ({_NAME}) is not stored any more.")
    else:
        error = ParentFailed(f"The job {parent_id} ({_NAME}) did not complete.")
    return encode_data({"error": problem_of(error), "usage": None, "sha256": EMPTY_SHA256})
