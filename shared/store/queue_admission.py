"""Admit new jobs to the queue, in two steps around the creation of their records: admit, then release.

An Idempotency-Key is claimed with the admission. Not here: the record (jobs.py), the queue's other steps (queue.py),
and which requests become jobs (gateway/admission).
"""

import math
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.model.errors import IdempotencyConflict, QueueFull, TooManyWaiting
from shared.model.jobs import LONGEST_TIMEOUT_S, JobSpec, created_ms, new_job_id
from shared.model.metrics import Metrics
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.store.client import Functions
from shared.store.keys import Keys
from shared.store.queue import JOB_CHECK_S
from shared.store.wire.arq_messages import message_of, serialize

# A crash between `admit` and `release` leaves a job that runs by itself after this long.
_ADMITTED_DUE_MS = 5_000
_LIST_SLACK_MS = 3_600_000
# A job may end this long after its deadline: its worker or the reaper has to see it first.
LATE_END_MS = 60_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """The answer of `admit`: the job's id, whether it existed before, and its position in the lane."""

    job_id: str
    existing: bool
    position: int


class QueueAdmission:
    """The entry of new jobs to all lanes."""

    def __init__(self, client: Redis, keys: Keys, metrics: Metrics | None = None) -> None:
        self._refused = (metrics or Metrics()).refused
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._arq = keys.arq

    async def admit(
        self,
        spec: JobSpec,
        *,
        max_depth: int,
        retention_s: float,
        listed_s: float = 0.0,
        bounds: TenantBounds = UNBOUNDED,
    ) -> Admitted:
        """Admit a job to its lane, due in 5 s; a refusal stores nothing. `bounds` are its tenant's.

        A job is listed for `retention_s` after its end, or for `listed_s` if that is more.

        Raises:
            QueueFull: the lane holds `max_depth` waiting jobs.
            TooManyWaiting: the tenant has as many waiting jobs as it may.
            IdempotencyConflict: the key was used with another body.
        """
        keys = self._keys_of(spec)
        args = self._arguments(spec, max_depth, retention_s, listed_s, bounds)
        verdict, value, *more = await self._functions.call("admit", keys, *args)
        match verdict:
            case b"existing":
                return Admitted(value.decode(), existing=True, position=0)
            case b"admitted":
                return Admitted(value.decode(), existing=False, position=int(more[0]))
            case b"bound":
                self._refused.of("waiting").add()
                raise TooManyWaiting.at(int(more[0]))
            case b"full":
                self._refused.of("depth").add()
                raise QueueFull(f"The lane {spec.lane} already holds {int(value)} waiting jobs; try again later.")
            case b"conflict":
                raise IdempotencyConflict(
                    "This Idempotency-Key was used before with another body; use a new key for a new request.",
                    param="Idempotency-Key",
                )
            case _:
                raise ValueError(f"The step admit answered {verdict!r}.")

    def _keys_of(self, spec: JobSpec) -> list[str]:
        keys = [
            self._keys.lane(spec.lane),
            self._keys.active,
            self._arq.job + spec.id,
            self._keys.tenant_jobs(spec.tenant),
            self._keys.wake_ups(spec.lane),
            self._keys.reservations,
        ]
        if spec.idempotency_key is not None:
            keys.append(self._keys.idempotency(spec.tenant, spec.idempotency_key))
        return keys

    def _arguments(
        self, spec: JobSpec, max_depth: int, retention_s: float, listed_s: float, bounds: TenantBounds
    ) -> list[str | bytes | int]:
        # A job is listed while it can be read; the tenant's other jobs may have had longer time-outs than this one.
        read_ms = int(max(retention_s, listed_s) * 1000)
        listed_ms = int(LONGEST_TIMEOUT_S * 1000) + read_ms + _LIST_SLACK_MS
        return [
            spec.id,
            spec.fingerprint,
            int(retention_s * 1000),  # the record lives longer: a key without one means a crash or a delete
            max_depth,
            serialize(message_of(spec.id)),
            _ADMITTED_DUE_MS,
            _first_check_ms(spec),
            new_job_id(max(created_ms(spec.id) - listed_ms, 0), 0),
            int(spec.lifetime_s * 1000) + read_ms + LATE_END_MS,
            listed_ms,
            spec.tenant,
            self._keys.ledgers,
            "" if bounds.waiting is None else bounds.waiting,
            bounds.running_term,
        ]

    async def withdraw(self, spec: JobSpec) -> bool:
        """Remove an admitted job that could not be recorded; False if another call has recorded it."""
        keys = [
            self._keys.lane(spec.lane),
            self._keys.active,
            self._arq.job + spec.id,
            self._arq.in_progress + spec.id,
            self._keys.tenant_jobs(spec.tenant),
            self._keys.reservations,
        ]
        if spec.idempotency_key is not None:
            keys.append(self._keys.idempotency(spec.tenant, spec.idempotency_key))
        return bool(await self._functions.call("withdraw", keys, spec.id, self._keys.ledgers))

    async def record_deletion(self, job_id: str, *, retention_s: float) -> None:
        """Record a deletion before the job is gone, or its Idempotency-Key would return it again."""
        await self._client.set(self._keys.deleted(job_id), b"", px=int(retention_s * 1000))

    async def free_key(self, spec: JobSpec, job_id: str) -> bool:
        """Free the Idempotency-Key that led `spec` to this job if the job was deleted; return whether it was."""
        if spec.idempotency_key is None:
            return False
        keys = [self._keys.idempotency(spec.tenant, spec.idempotency_key), self._keys.deleted(job_id)]
        return bool(await self._functions.call("free", keys, job_id))

    async def release(self, job_id: str, lane: str) -> bool:
        """Make an admitted job due now and notify the lane's workers; False if it was taken already."""
        keys = [
            self._keys.lane(lane),
            self._keys.wake_ups(lane),
            self._arq.in_progress + job_id,
            self._keys.reservations,
        ]
        return bool(await self._functions.call("release", keys, job_id, self._keys.ledgers))


def _first_check_ms(spec: JobSpec) -> int:
    """Return the time (ms) until the reaper's first check of a job."""
    first_viewer_timeout_s = spec.abandonment.first_viewer_timeout_s
    times = (spec.timeout_s, JOB_CHECK_S, math.inf if first_viewer_timeout_s is None else first_viewer_timeout_s)
    return int(min(times) * 1000)
