"""The queue of jobs: take, renew, give back, remove and restore them, and schedule their checks.

A lane is an arq queue with arq's own keys, so that arq's `run_job` runs the job that `take` chose. The message holds
only the job's id. Not here: the entry of new jobs (queue_admission.py), the lists of tenants (tenant_lists.py), and a
job's record and progress (jobs.py).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.model.jobs import Place
from shared.model.metrics import Metrics
from shared.store.client import Functions
from shared.store.keys import Keys
from shared.store.server_check import RedisServer, server_of
from shared.store.server_marker import ServerMarker
from shared.store.wire.answers import RenewAnswer, TakeAnswer, parse_take_answer
from shared.store.wire.arq_messages import message_of, serialize

JOB_CHECK_S = 30.0
"""The reaper checks every job at least this often: a job that the queue has lost is found."""
CALL_LIMIT_LEASES = 0.5
"""Claims are renewed every quarter of a lease: while calls take less than this, none that is alive runs out."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim on a job. Other workers can't take it until `good_until` (the loop's clock, seconds)."""

    job_id: str
    lane: str
    owner: str
    good_until: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The jobs of a lane that are due and not taken, and for how long the first of them has been due."""

    lane: str
    jobs: int
    oldest_s: float


class Queue:
    """All lanes, and the arq keys of the jobs in them."""

    def __init__(self, client: Redis, keys: Keys, metrics: Metrics | None = None, *, has_jobs: bool = False) -> None:
        """Create the queue; `has_jobs` if its server has the jobs' keys too, so that `take` may return them."""
        self._jobs = keys.jobs if has_jobs else ""
        self._refused = (metrics or Metrics()).refused
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._arq = keys.arq
        self._marker = ServerMarker(client, keys)
        self._ahead_ms: float | None = None

    async def take(
        self, lanes: Sequence[str], owner: str, lease_s: float, *, spare: bool = False, slots: int = 0
    ) -> TakeAnswer:
        """Claim the next ready job of the first lane that has one, and read it; within a lane, tenants take turns.

        `slots` are the caller's. With `spare`, jobs that ran before are skipped for one lease: after an outage their
        workers come first.

        Raises:
            TimeoutError: the server answered so late that claims may have expired; the call claimed nothing.
        """
        queue = (self._keys.active, self._keys.reservations, self._keys.slots)
        keys = [*queue, *map(self._keys.lane, lanes), *map(self._keys.wake_ups, lanes)]
        sent_ms = asyncio.get_running_loop().time() * 1000
        call_limit_ms = 1000 * lease_s * CALL_LIMIT_LEASES
        index, now, passed, *found = await self._functions.call(
            "take",
            keys,
            owner,
            int(lease_s * 1000),
            self._arq.in_progress,
            self._arq.retry,
            "1" if spare else "",
            "" if self._ahead_ms is None else int(sent_ms + self._ahead_ms + call_limit_ms),
            self._keys.ledgers,
            slots,
            self._arq.job,
            self._jobs,
        )
        if passed:
            self._refused.of("running").add(passed)
        if asyncio.get_running_loop().time() * 1000 - sent_ms < call_limit_ms:
            # Learnt from answers that came in time only, so that the server's clock may be set while we run.
            self._ahead_ms = int(now) - sent_ms
        if index < 0:
            raise TimeoutError("Redis was away.")
        return parse_take_answer(lanes, index, found)

    async def wait_for_wake_up(self, client: Redis, lanes: Sequence[str], timeout_s: float) -> None:
        """Wait for a wake-up in one of these lanes. `client` has a connection of its own, since the call blocks."""
        await client.execute_command("BLPOP", *map(self._keys.wake_ups, lanes), timeout_s)

    async def renew(self, claims: Sequence[Claim], lease_s: float) -> list[RenewAnswer]:
        """Renew the claims on jobs with executions that the store has confirmed."""
        if not claims:
            return []
        pairs = [key for c in claims for key in (self._arq.in_progress + c.job_id, self._keys.lane(c.lane))]
        args = [part for c in claims for part in (c.job_id, c.owner)]
        keys = [self._keys.reservations, *pairs]
        answers: list[bytes] = await self._functions.call("renew", keys, int(lease_s * 1000), self._keys.ledgers, *args)
        return [RenewAnswer(answer.decode()) for answer in answers]

    async def give_back(self, claim: Claim, in_s: float = 0.0) -> bool:
        """Let any worker take the job, at once or in so many seconds; whether it was the claim's to give."""
        arq_keys = [self._arq.in_progress + claim.job_id, self._arq.retry + claim.job_id]
        keys = [self._keys.lane(claim.lane), self._keys.wake_ups(claim.lane), *arq_keys, self._keys.reservations]
        args = (claim.job_id, claim.owner, int(in_s * 1000), self._keys.ledgers)
        return bool(await self._functions.call("give_back", keys, *args))

    async def has_message(self, job_id: str) -> bool:
        """Whether arq's message of the job is there."""
        return bool(await self._client.exists(self._arq.job + job_id))

    async def done(self, job_id: str, lane: str) -> None:
        """Remove the entry of a job that has ended: the last of its completion steps; idempotent."""
        keys = [
            self._keys.lane(lane),
            self._keys.active,
            self._arq.job + job_id,
            self._arq.in_progress + job_id,
            self._arq.retry + job_id,
            self._keys.reservations,
        ]
        await self._functions.call("done", keys, job_id, self._keys.ledgers)

    async def leave_lane(self, job_id: str, lane: str, check_in_s: float = 0.0) -> None:
        """Let an ended job wait no longer. Its entry stays until a reaper has completed it, in so many seconds."""
        claim, retry = self._arq.in_progress + job_id, self._arq.retry + job_id
        keys = [self._keys.lane(lane), self._keys.active, claim, self._keys.reservations, retry]
        await self._functions.call("leave_lane", keys, job_id, self._keys.ledgers, int(check_in_s * 1000))

    async def schedule_check(self, job_ids: Iterable[str], in_s: float) -> None:
        """Schedule a check of these jobs by the reaper in so many seconds; an earlier one stays."""
        await self.schedule_checks(dict.fromkeys(job_ids, in_s))

    async def schedule_checks(self, in_s: Mapping[str, float]) -> None:
        """Schedule a check of each job in its own number of seconds."""
        args = [part for job_id, wait_s in in_s.items() for part in (job_id, int(wait_s * 1000))]
        if args:
            await self._functions.call("schedule_check", [self._keys.active], *args)

    async def due_for_check(self, *, hold_s: float, limit: int) -> tuple[int, list[str]]:
        """Return Redis's time in ms, and the jobs due for a check; other reapers do not see them for `hold_s`."""
        now, *jobs = await self._functions.call("due", [self._keys.active], int(hold_s * 1000), limit)
        return int(now), [job.decode() for job in jobs]

    async def restore(
        self, place: Place, check_in_s: float, *, lease_s: float = 0.0, held_until_ms: int | None = None
    ) -> bool:
        """Schedule a check, and restore a job that the queue had lost; return whether it had.

        One that began is due after `lease_s`: its worker, if it is alive, renews it until then. `held_until_ms` is when
        the caller's hold (`due_for_check`) ends: the check is then postponed, unless an earlier one was requested.
        """
        job_id, lane, began, tenant = place
        keys = [
            self._keys.lane(lane),
            self._keys.active,
            self._arq.job + job_id,
            self._keys.wake_ups(lane),
            self._arq.in_progress + job_id,
            self._keys.reservations,
        ]
        args = (
            job_id,
            serialize(message_of(job_id)),
            int(check_in_s * 1000),
            int(lease_s * 1000) if began else 0,
            held_until_ms or "",
            "1" if began else "",
            tenant,
            self._keys.ledgers,
        )
        return bool(await self._functions.call("restore", keys, *args))

    async def backlog(self, lanes: Sequence[str]) -> list[Backlog]:
        """Count the waiting jobs of these lanes, in one round trip."""
        answers = await self._functions.call("backlog", [self._keys.lane(lane) for lane in lanes])
        return [Backlog(lane, jobs, age_ms / 1000) for lane, (jobs, age_ms) in zip(lanes, answers, strict=True)]

    async def position(self, job_id: str, lane: str) -> int | None:
        """The job's place among those that wait, from 1; None if it is not in the lane."""
        rank = await self._client.zrank(self._keys.lane(lane), job_id)
        return None if rank is None else int(rank) + 1

    async def report_alive(self, host: str, for_s: float, *, worker: str, slots: int) -> None:
        """Publish that this worker runs on this host with so many slots; it is repeated within `for_s` seconds."""
        await self._functions.call(
            "alive", [self._keys.worker(host), self._keys.slots], worker, slots, int(for_s * 1000)
        )

    async def server(self) -> RedisServer:
        """Which server this is, and for how long it has been up."""
        return await server_of(self._client)

    async def identity(self) -> str:
        """Name the server as it is now: another name means that it may have lost entries.

        A flush takes its mark. One that starts again, or a replica in its place, may lack the last second.
        """
        return f"{await self._marker.read()} {(await self.server()).run_id}"

    async def ping(self) -> None:
        """Raise one of `REDIS_DOWN` if the server can't be reached."""
        await self._client.ping()
