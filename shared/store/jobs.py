"""The records of jobs in Redis: create, read, cancel and delete them, each in one atomic step of functions/.

Not here: executions and their ends (executions.py), the log (replay_log.py), the order in which jobs run (queue.py),
parsing (job_records.py, shared/store/wire/answers.py).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from shared.model.errors import (
    Abandoned,
    BrokenJob,
    Cancelled,
    TooManyBytes,
    problem_of,
)
from shared.model.events import encode_data
from shared.model.job_record import embedded_from, job_from_record
from shared.model.jobs import Embedded, Job, JobSpec
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.model.progress_count import ProgressReport
from shared.model.stored_request import parse_request
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.store.client import Functions
from shared.store.executions import Execution
from shared.store.job_counts import JobCounts
from shared.store.job_records import REMAINS_FIELDS, Remains, parse_job, parse_remains, readable
from shared.store.keys import Keys
from shared.store.server_check import RedisServer, server_of
from shared.store.wire.answers import (
    CancelAnswer,
    ForgetAnswer,
    StoredJob,
)
from shared.store.wire.control import CancelJob, JobEnded, encode_message
from shared.store.wire.job_creation import create_step

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Created(NamedTuple):
    """A job's record; `new` if this call wrote it."""

    job: Job
    new: bool


class JobRecords:
    """The records of all jobs."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        retention_s: float,
        metrics: Metrics | None = None,
    ) -> None:
        """Store a job that is cancelled before it began for `retention_s` after its end."""
        self._counts = JobCounts(metrics or Metrics())
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._retention_ms = int(retention_s * 1000)

    async def create(
        self,
        spec: JobSpec,
        position: int,
        *,
        again: bool = False,
        bounds: TenantBounds = UNBOUNDED,
        request_id: str = "",
    ) -> Created:
        """Write record, request and the `queued` event, unless they exist. `bounds` are the tenant's.

        `again`: the job may have existed before and was lost.

        Raises:
            TooManyBytes: the tenant stores as many bytes as new jobs may fill; nothing was written.
        """
        step = create_step(self._keys, spec, position, again=again, bounds=bounds, request_id=request_id)
        answer, record = await self._functions.call(step.function, step.keys, *step.args)
        if answer == b"bytes":
            self._counts.refused_for_bytes()
            raise TooManyBytes.at(bounds.bytes or 0)
        if answer == b"created":
            self._counts.created(spec.lane)
        job = job_from_record(spec.id, dict(zip(record[::2], record[1::2], strict=True)))
        return Created(job, answer == b"created")

    async def load(self, job_id: str) -> Job:
        """Read a record.

        Raises:
            JobNotFound: there is none (any more).
            BrokenJob: this version can't read it.
        """
        return parse_job(job_id, await self._client.hgetall(self._keys.job(job_id).record))  # type: ignore[misc]

    async def load_many(self, job_ids: Sequence[str]) -> list[Job | BrokenJob | None]:
        """Read many records in one round trip; None for those that are gone."""
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self._keys.job(job_id).record)
            records = await pipe.execute(raise_on_error=False)
        return [readable(job_id, record) for job_id, record in zip(job_ids, records, strict=True)]

    async def load_with_request(self, job_id: str) -> tuple[Job, dict[str, Any]]:
        """Read a record and the body for the provider, in one round trip. Raises as `load` and `request` do."""
        job, request, _ = await self.load_with_kept(job_id)
        return job, request

    async def load_with_kept(self, job_id: str) -> tuple[Job, dict[str, Any], dict[str, Any]]:
        """Read a record, the provider's body, and the dialect's own fields. Raises as `load` and `request` do."""
        job, request = await self.load_with_stored(job_id)
        return job, *parse_request(request)

    def read_taken(self, job_id: str, stored: StoredJob) -> tuple[Job, dict[str, Any]]:
        """Parse a job that was read when it was taken. Raises as `load_with_request` does."""
        request, _ = parse_request(stored.request)
        return parse_job(job_id, stored.record), request

    async def load_with_stored(self, job_id: str) -> tuple[Job, bytes]:
        """Read a record, and the request as it is stored; empty if it is gone. Raises as `load` does."""
        keys = self._keys.job(job_id)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.record)
            pipe.get(keys.request)
            record, request = await pipe.execute()
        return parse_job(job_id, record), request or b""

    async def request(self, job_id: str) -> dict[str, Any]:
        """Read the provider's body. Raises BrokenJob if it is gone or not a JSON object."""
        request, _ = parse_request(await self.stored_request(job_id))
        return request

    async def stored_request(self, job_id: str) -> bytes:
        """Read the request as it is stored; empty if it is gone."""
        return await self._client.get(self._keys.job(job_id).request) or b""

    async def embedded(self, job_id: str) -> Embedded | None:
        """Read the state of a partial result; None if it is missing or can't be read."""
        raw = await self._client.hget(self._keys.job(job_id).record, "embedded")  # type: ignore[misc]
        try:
            return embedded_from(raw)
        except (TypeError, ValueError):
            return None

    async def write_report(self, execution: Execution, report: ProgressReport) -> bool:
        """Write the last report of a function's progress; return whether the execution may still write to its job."""
        record, data = self._keys.job(execution.job_id).record, encode_data(report.as_record())
        return bool(await self._functions.call("report", [record], execution.epoch, execution.owner, data))

    async def cancel(self, job_id: str, reason: Cancelled) -> CancelAnswer:
        """Cancel a job: at once if it never began, else through its worker."""
        return await self._cancel("cancel", job_id, reason, {})

    async def abandon(self, job_id: str, tokens_saved: int) -> CancelAnswer:
        """Cancel a job that has no viewers, unless it has one again.

        `tokens_saved` is the saved-token estimate of a job that never began.
        """
        return await self._cancel("abandon", job_id, Cancelled.because(Abandoned.code), {"tokens_saved": tokens_saved})

    async def _cancel(self, step: str, job_id: str, reason: Cancelled, extra: Mapping[str, int]) -> CancelAnswer:
        keys = self._keys.job(job_id)
        outcome = encode_data({"error": problem_of(reason), "usage": None, "sha256": EMPTY_SHA256, **extra})
        raw: bytes = await self._functions.call(
            step,
            [keys.record, keys.log, keys.channel, keys.request, keys.result],
            encode_message(CancelJob(job_id)),
            self._keys.control,
            reason.code,
            outcome,
            self._retention_ms,
        )
        answer = CancelAnswer(raw.decode())
        if answer is CancelAnswer.CANCELLED:
            self._counts.ended(State.CANCELLED, outcome)
        return answer

    async def announce_end(self, job_id: str) -> None:
        """Notify the workers of a job that ended without one, so that its completion steps run at once."""
        await self._client.publish(self._keys.control, encode_message(JobEnded(job_id)))

    async def forget(self, job_id: str) -> ForgetAnswer:
        """Delete a completed job now. Hide another one: workers and readers need the record until a minute after."""
        keys = self._keys.job(job_id)
        answer: bytes = await self._functions.call("forget", [keys.record, keys.log, keys.request, keys.result])
        return ForgetAnswer(answer.decode())

    async def cancel_state(self, job_id: str) -> tuple[str, int]:
        """Read the code and the time (ms) of the cancellation."""
        code, at = await self._client.hmget(self._keys.job(job_id).record, ["cancel_code", "cancel_at"])  # type: ignore[misc]
        return (code or b"cancelled").decode(), int(at or 0)

    async def remains(self, job_id: str) -> Remains | None:
        """Read the fields of a broken record that place the job; None if the job needs no action."""
        fields = await self._client.hmget(self._keys.job(job_id).record, REMAINS_FIELDS)  # type: ignore[misc]
        return parse_remains(job_id, fields)

    async def time_ms(self) -> int:
        """Read the clock of the functions on this server."""
        return int(await self._functions.call("time", []))

    async def server(self) -> RedisServer:
        """Read the server's identity and uptime."""
        return await server_of(self._client)
