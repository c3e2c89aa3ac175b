"""The claims on the completion of ended jobs, and the steps that are recorded as done; both are in the jobs' records.

A claim keeps two processes from running a job's steps at once; a recorded step does not run again after a crash.
Not here: the steps and their order (worker/execution/completion.py).
"""

import uuid
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.model.ended_job import EndedJob
from shared.store.client import Functions
from shared.store.keys import Keys


@dataclass(frozen=True, slots=True)
class Claimed:
    """The caller may run the completion steps of this job that are not `done`."""

    job: EndedJob
    done: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClaimedElsewhere:
    """Another process runs the steps; its claim ends in so many seconds unless it is renewed."""

    left_s: float


@dataclass(frozen=True, slots=True)
class NotEnded:
    """There is nothing to complete: the job has not ended, or has no record."""


CompletionClaim = Claimed | ClaimedElsewhere | NotEnded
"""The answer to a claim."""


class Completions:
    """The claims of one process."""

    def __init__(self, client: Redis, keys: Keys, lease_s: float) -> None:
        """Create the claims; each is valid for `lease_s` after it was made or a step was recorded."""
        self.lease_s = lease_s
        self._functions = Functions(client, keys)
        self._keys = keys
        self._owner = uuid.uuid4().hex
        self._lease_ms = int(lease_s * 1000)

    async def claim(self, job_id: str) -> CompletionClaim:
        """Claim the completion of a job and read its record, in one round trip; idempotent."""
        record = self._keys.job(job_id).record
        word, *rest = await self._functions.call("claim_completion", [record], self._owner, self._lease_ms)
        match word:
            case b"claimed":
                steps, *fields = rest
                job = EndedJob.from_record(job_id, dict(zip(fields[::2], fields[1::2], strict=True)))
                return Claimed(job, frozenset(steps.decode().split()))
            case b"busy":
                return ClaimedElsewhere(rest[0] / 1000)
            case _:
                return NotEnded()

    async def record(self, job_id: str, step: str) -> bool:
        """Record a finished step and renew the claim; False if this process does not hold the claim; idempotent."""
        record = self._keys.job(job_id).record
        args = (self._owner, self._lease_ms, step)
        return bool(await self._functions.call("record_completion_step", [record], *args))
