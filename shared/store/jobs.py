"""Job records: how a job is created, begun, ended, cancelled and read. The job side of the atomic steps.

Above: admission and the job API in the gateway, attempt and reaper in the worker. Below: functions/, which decides;
nothing is decided here. Not here: the log's bytes (replay.py) and who runs when (queue.py).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.model.errors import (
    Abandoned,
    BrokenJob,
    Cancelled,
    JobNotFound,
    TailraceError,
    TooManyBytes,
    WorkerLost,
    is_request_fault,
    problem_of,
)
from shared.model.events import EventId, encode_data
from shared.model.jobs import (
    KEPT,
    RECORD_VERSION,
    VIEWER_LEASE_S,
    Embedded,
    Job,
    JobSpec,
    Place,
    Progress,
    code_in,
    embedded_from,
    job_from_record,
)
from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import TERMINAL, State
from shared.model.tenant_bounds import UNBOUNDED, TenantBounds
from shared.store.answers import (
    BeginRefusal,
    CancelAnswer,
    FinishAnswer,
    ForgetAnswer,
    StopReason,
    Written,
    parse_beat_answer,
    parse_finish_answer,
)
from shared.store.client import Functions
from shared.store.control import CancelJob, encode_message
from shared.store.keys import Keys
from shared.store.server_check import Server, server_of
from shared.telemetry.metrics import Metrics

_TERMINAL = frozenset(state.value.encode() for state in TERMINAL)
ROLLED_BACK = EventId(0, 1)
"""The `queued` event: what is left where all that an execution has shown is taken back."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a job, from `begin` to its end: the fence, and where its log stands.

    `base` events were logged before this epoch, `seq` in it so far; `left_ms` remain until the deadline.
    """

    job_id: str
    epoch: int
    owner: str
    seq: int
    base: int
    attempt: int
    left_ms: int


@dataclass(frozen=True, slots=True)
class Succession:
    """How an execution follows a former one.

    `cause` is why that one came to no end, unless it said so itself; `former` is its owner where the caller ended it.
    `resumed_from` is the last event that still holds: `ROLLED_BACK` takes back what was shown, None says that there
    was nothing. `seen` is the last event that was read of the log: where it has `moved` on, nothing begins.
    """

    cause: TailraceError
    former: str = ""
    resumed_from: EventId | None = ROLLED_BACK
    seen: EventId | None = None


class Remains(NamedTuple):
    """What can be read of a broken record: where the job belongs, and when its time is over (ms), if it says so."""

    place: Place
    deadline_ms: int | None


class Created(NamedTuple):
    """A job's record; `new` if this call wrote it."""

    job: Job
    new: bool


class Store:
    """The records of all jobs."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        retention_s: float,
        failed_retention_s: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        """Keep a job for `retention_s` after its end; a dead letter for `failed_retention_s`, if that is more."""
        self._metrics = metrics or Metrics()
        self._executions, self._rollbacks = self._metrics.executions.of(), self._metrics.rollbacks.of()
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys
        self._retention_ms = int(retention_s * 1000)
        self._failed_retention_ms = int(max(retention_s, failed_retention_s) * 1000)

    async def create(
        self, spec: JobSpec, position: int, *, again: bool = False, bounds: TenantBounds = UNBOUNDED
    ) -> Created:
        """Write record, request and the `queued` event, unless they are there already. `bounds` are the tenant's.

        `again`: the job may have been here and was lost.

        Raises:
            TooManyBytes: the tenant keeps as many bytes as new jobs may fill; nothing was written.
        """
        keys, given_up = self._keys.job(spec.id), spec.abandonment
        watched = spec.viewer is not None
        answer, record = await self._functions.call(
            "create",
            [keys.record, keys.request, keys.log, keys.channel, *((keys.viewers, keys.readers) if watched else ())],
            spec.id,
            RECORD_VERSION,
            spec.kind,
            spec.tenant,
            spec.lane,
            spec.model,
            spec.request,
            int(spec.timeout_s * 1000),
            0 if given_up.unseen_s is None else max(int(given_up.unseen_s * 1000), 1),
            encode_data(dict(spec.metadata)),
            position,
            given_up.on_disconnect.value,
            "" if given_up.alone_s is None else int(given_up.alone_s * 1000),
            spec.on_stream_failure or "",
            "1" if spec.one_way else "",
            spec.requeued_from or "",
            "" if spec.keep_s is None else max(int(spec.keep_s * 1000), 1),
            "" if spec.idempotency_key is None else f"{spec.fingerprint} {spec.idempotency_key}",
            "1" if again else "",
            self._keys.kept_bytes(spec.tenant),
            "" if bounds.bytes_of_new is None else bounds.bytes_of_new,
            "" if bounds.bytes is None else bounds.bytes,
            spec.brief,
            *((spec.viewer, int(VIEWER_LEASE_S * 1000)) if spec.viewer is not None else ()),
        )
        if answer == b"bytes":
            self._metrics.refused.of("bytes").add()
            raise TooManyBytes.at(bounds.bytes or 0)
        if answer == b"created":
            self._metrics.submitted.of(spec.lane).add()
        job = job_from_record(spec.id, dict(zip(record[::2], record[1::2], strict=True)))
        return Created(job, answer == b"created")

    async def load(self, job_id: str) -> Job:
        """Read a record.

        Raises:
            JobNotFound: there is none (any more).
            BrokenJob: this version can't read it.
        """
        return _job(job_id, await self._client.hgetall(self._keys.job(job_id).record))  # type: ignore[misc]

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
        """The same, and what a dialect keeps with the request: empty where none does. Raises as they do."""
        keys = self._keys.job(job_id)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.record)
            pipe.get(keys.request)
            record, request = await pipe.execute()
        return _job(job_id, record), *_request(request)

    async def request(self, job_id: str) -> dict[str, Any]:
        """The body for the provider.

        Raises:
            BrokenJob: it is gone, or no JSON object.
        """
        request, _ = _request(await self._client.get(self._keys.job(job_id).request))
        return request

    async def embedded(self, job_id: str) -> Embedded | None:
        """How far the job's result goes; None where nothing of it is kept, or it can't be read."""
        raw = await self._client.hget(self._keys.job(job_id).record, "embedded")  # type: ignore[misc]
        try:
            return embedded_from(raw)
        except (TypeError, ValueError):
            return None

    async def begin(
        self,
        job_id: str,
        owner: str,
        *,
        epoch: int,
        model: str,
        provider: str,
        after: Succession | None = None,
        progress: Progress | None = None,
    ) -> Execution | BeginRefusal:
        """Take the epoch after `epoch` and write `started`.

        `epoch` is the record's as it was read while the claim was good: `stale` if somebody has begun since. What a
        former execution has shown holds or is rolled back, as `after` says; without it, it is rolled back.
        """
        after = after or Succession(WorkerLost.because_of_silence())
        seen = "" if after.seen is None else after.seen.seq if after.seen.epoch == epoch else 0
        return await self._begin(
            job_id,
            owner,
            "run",
            epoch,
            encode_data(model),
            encode_data(provider),
            after.former,
            encode_data(problem_of(after.cause)),
            "" if after.resumed_from is None else str(after.resumed_from),
            seen,
            encode_data(asdict(progress or Progress())),
        )

    async def take_over(self, job_id: str, owner: str, epoch: int | None = None) -> Execution | BeginRefusal:
        """Take the next epoch without `started`, in order to end the job in a worker's place.

        With the `epoch` that was read: `stale` if somebody has begun since.
        """
        return await self._begin(job_id, owner, "end", "" if epoch is None else epoch)

    async def _begin(
        self, job_id: str, owner: str, mode: Literal["run", "end"], *args: int | str | bytes
    ) -> Execution | BeginRefusal:
        keys = self._keys.job(job_id)
        answer = await self._functions.call("begin", [keys.record, keys.log, keys.channel], owner, mode, *args)
        if answer[0] != b"ok":
            return BeginRefusal(answer[0].decode())
        epoch, seq, base, attempt, left_ms = (int(part) for part in answer[1:])
        if mode == "run":
            self._executions.add()
            self._rollbacks.add(seq > 1)
        return Execution(job_id, epoch, owner, seq, base, attempt, left_ms)

    async def finish(
        self,
        execution: Execution,
        *,
        seq: int,
        frame: bytes,
        status: State,
        outcome: bytes,
        result: bytes | None = None,
    ) -> FinishAnswer:
        """Write the terminal event and everything that ends with it."""
        keys = self._keys.job(execution.job_id)
        extra = () if result is None else (result,)
        raw: bytes = await self._functions.call(
            "finish",
            [keys.record, keys.log, keys.channel, keys.request, keys.result],
            execution.epoch,
            execution.owner,
            seq,
            frame,
            status.value,
            outcome,
            self._kept_ms(status, outcome),
            *extra,
        )
        answer = parse_finish_answer(raw)
        if isinstance(answer, Written):
            self._count_end(status, outcome)
        return answer

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
            self._count_end(State.CANCELLED, outcome)
        return answer

    async def forget(self, job_id: str) -> ForgetAnswer:
        """Delete a job that has ended, now; hide one that has not, which is then kept for a minute after its end.

        A worker needs the record to end the job, and the readers it has may read that end.
        """
        keys = self._keys.job(job_id)
        answer: bytes = await self._functions.call("forget", [keys.record, keys.log, keys.request, keys.result])
        return ForgetAnswer(answer.decode())

    def _kept_ms(self, status: State, outcome: bytes) -> int:
        is_dead_letter = status is State.FAILED and not is_request_fault(code_in(json.loads(outcome)))
        return self._failed_retention_ms if is_dead_letter else self._retention_ms

    def _count_end(self, status: State, outcome: bytes) -> None:
        end = json.loads(outcome)
        self._metrics.ended.of(status.value, code_in(end)).add()
        usage = end.get("usage") or {}
        for kind in ("prompt", "completion"):
            self._metrics.tokens.of(kind).add(usage.get(f"{kind}_tokens", 0))
        self._metrics.tokens_saved.of().add(end.get("tokens_saved", 0))

    async def cancel_state(self, job_id: str) -> tuple[str, int]:
        """Why and when (ms) the job was cancelled."""
        code, at = await self._client.hmget(self._keys.job(job_id).record, ["cancel_code", "cancel_at"])  # type: ignore[misc]
        return (code or b"cancelled").decode(), int(at or 0)

    async def beat(self, executions: Sequence[Execution]) -> list[StopReason | None]:
        """Check each execution; None if it may continue."""
        if not executions:
            return []
        records = [self._keys.job(execution.job_id).record for execution in executions]
        fences = [part for execution in executions for part in (execution.epoch, execution.owner)]
        answers: list[bytes] = await self._functions.call("beat", records, *fences)
        return [parse_beat_answer(answer) for answer in answers]

    async def leave(
        self, execution: Execution, cause: TailraceError, *, costs: bool, progress: Progress | None = None
    ) -> bool:
        """End this execution without an end of the job; whether it was still the caller's.

        `cause` is what the next one's `rollback` will name; `costs` says whether it counts as an attempt.
        """
        return bool(
            await self._functions.call(
                "leave",
                [self._keys.job(execution.job_id).record],
                execution.epoch,
                execution.owner,
                encode_data(problem_of(cause)),
                int(costs),
                "" if progress is None else encode_data(asdict(progress)),
            )
        )

    async def may_walk(self, server: str, for_s: float) -> bool:
        """Whether the jobs are to be compared with this queue server, by the caller and for so long by nobody else."""
        if await self._client.get(self._keys.walked) == server.encode():
            return False
        return bool(await self._client.set(self._keys.walking, server, nx=True, px=int(for_s * 1000)))

    async def walked(self, server: str) -> None:
        """They were compared."""
        await self._client.set(self._keys.walked, server)
        await self._client.delete(self._keys.walking)

    async def not_walked(self) -> None:
        """The walk came to nothing: anybody may try again at once."""
        await self._client.delete(self._keys.walking)

    async def remains(self, job_id: str) -> Remains | None:
        """Read what matters of a record that this version can't read; None if the job needs nothing, as far as it says.

        A lane that isn't named, or that only a newer version knows, is as good as any: whoever takes the job ends it.
        """
        fields = ["status", "lane", "deadline", "tenant"]
        status, lane, deadline, tenant = await self._client.hmget(self._keys.job(job_id).record, fields)  # type: ignore[misc]
        if status is None or status in _TERMINAL:
            return None
        names = ((lane or DEFAULT_LANE.encode()), tenant or b"")
        place = Place(job_id, names[0].decode("utf-8", "replace"), True, names[1].decode("utf-8", "replace"))
        return Remains(place, int(deadline) if deadline is not None and deadline.isdigit() else None)

    async def time_ms(self) -> int:
        """Read the clock by which this server's times are written."""
        return int(await self._functions.call("time", []))

    async def server(self) -> Server:
        """Which server this is, and for how long it has been up."""
        return await server_of(self._client)


def _job(job_id: str, record: Mapping[bytes, bytes]) -> Job:
    if not record:
        raise JobNotFound(f"There is no job {job_id}.")
    return job_from_record(job_id, record)


def _request(raw: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body for the provider, and what a dialect keeps with it."""
    try:
        request = json.loads(raw or b"")
    except ValueError as error:
        raise BrokenJob("The job's request can't be read.") from error
    if not isinstance(request, dict):
        raise BrokenJob("The job's request is not an object.")
    kept = request.pop(KEPT, {})
    return request, kept


def readable(job_id: str, record: Mapping[bytes, bytes] | ResponseError) -> Job | BrokenJob | None:
    """Read a record's fields; None if it is gone."""
    if isinstance(record, ResponseError):  # of this record only: servers that can't serve raise
        return BrokenJob(f"The job's record can't be read: {record}.")
    try:
        return job_from_record(job_id, record) if record else None
    except BrokenJob as error:
        return error
