"""The executions of jobs in Redis: begin, check, leave and finish them, each in one atomic step of functions/.

An execution is fenced by its epoch and its owner: no step of a former one changes anything. Not here: a job's record
(jobs.py), its log (replay_log.py), and the execution itself (worker/execution).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from shared.model.errors import TailraceError, WorkerLost, needs_a_person, problem_of
from shared.model.events import EventId, encode_data
from shared.model.job_record import progress_json
from shared.model.jobs import Progress, code_in
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.store.client import Functions
from shared.store.job_counts import JobCounts
from shared.store.keys import Keys
from shared.store.replay_log import Entry
from shared.store.wire.answers import (
    BeginRefusal,
    FinishAnswer,
    StopReason,
    Written,
    parse_beat_answer,
    parse_finish_answer,
)

ROLLED_BACK = EventId(0, 1)
"""The `queued` event: a rollback to it discards all deltas."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a job, from `begin` to its end: the fence, and the end of its log.

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
    """The link from a former execution to the next one.

    `cause` is the error that stopped the former one, unless it stored its own. `former` is its owner if the caller
    stopped it. `resumed_from` is the last event that remains valid; None if there were no deltas. `seen` is the last
    event that was read: if the log has grown since, nothing begins.
    """

    cause: TailraceError
    former: str = ""
    resumed_from: EventId | None = ROLLED_BACK
    seen: EventId | None = None


class Executions:
    """The executions of all jobs."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        retention_s: float,
        failed_retention_s: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        """Store a job for `retention_s` after its end; a dead letter for `failed_retention_s`, if that is more."""
        self._counts = JobCounts(metrics or Metrics())
        self._functions = Functions(client, keys)
        self._keys = keys
        self._retention_ms = int(retention_s * 1000)
        self._failed_retention_ms = int(max(retention_s, failed_retention_s) * 1000)

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

        `epoch` was read while the claim was valid. Without `after`, the deltas of a former execution are rolled back.
        """
        after = after or Succession(WorkerLost.because_of_silence())
        seen = "" if after.seen is None else after.seen.seq if after.seen.epoch == epoch else 0
        return await self._begin(
            job_id,
            owner,
            "run",
            epoch,
            encode_data(model or None),
            encode_data(provider or None),
            after.former,
            encode_data(problem_of(after.cause)),
            "" if after.resumed_from is None else str(after.resumed_from),
            seen,
            progress_json(progress or Progress()),
        )

    async def take_over(self, job_id: str, owner: str, epoch: int | None = None) -> Execution | BeginRefusal:
        """Take the next epoch without `started`, to end the job for its worker. `epoch` is the one that was read."""
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
            self._counts.begun(rolled_back=seq > 1)
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
        last: Entry | None = None,
    ) -> FinishAnswer:
        """Write the terminal event and everything that ends with it; before it, the `last` frames of the execution.

        An empty `result` removes what is stored in its place.
        """
        keys = self._keys.job(execution.job_id)
        extra = () if result is None else (result,)
        frames = () if last is None else (last.first, last.last, last.frames)
        raw: bytes = await self._functions.call(
            "finish" if last is None else "finish_with_frames",
            [keys.record, keys.log, keys.channel, keys.request, keys.result],
            *frames,
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
            self._counts.ended(status, outcome)
        return answer

    def _kept_ms(self, status: State, outcome: bytes) -> int:
        is_dead_letter = status is State.FAILED and needs_a_person(code_in(json.loads(outcome)))
        return self._failed_retention_ms if is_dead_letter else self._retention_ms

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
        """End this execution, but not the job; return whether the caller still owned it.

        The next `rollback` names `cause`; `costs`: the execution counts as an attempt.
        """
        return bool(
            await self._functions.call(
                "leave",
                [self._keys.job(execution.job_id).record],
                execution.epoch,
                execution.owner,
                encode_data(problem_of(cause)),
                int(costs),
                "" if progress is None else progress_json(progress),
            )
        )
