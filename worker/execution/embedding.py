"""One execution of a job of kind `embeddings`: its inputs go to the provider in batches, and each batch is stored.

It does without the pump. A batch and its `progress` event are one step in Redis. An execution therefore continues
behind the stored batches of a former one and computes none of them again.
Not here: the call to the provider (worker/upstream/chain.py), and the decision after a failure (attempt_sequence.py).
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from anyio import CancelScope

from shared.model.bounds import EMBEDDED_AT_ONCE, PAGE_BYTES
from shared.model.errors import AttemptFailed, BrokenJob, OutputTooLarge, ProviderGarbage, ProviderRefused, TenantFull
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.jobs import FLOAT_BYTES, Embedded
from shared.model.metrics import Metrics
from shared.model.progress_count import ReportSequence
from shared.process.clock import Clock
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.results import Results
from shared.store.retrying import retry_until_redis_answers
from shared.store.wire.answers import Behind, Busy, FinishAnswer, StopReason, Written
from worker.execution.attempt import AttemptInput
from worker.execution.ending import (
    Ending,
    completed,
    ended_badly,
    estimate_input_tokens,
    finish,
    with_result,
)
from worker.execution.token_latency import TokenLatency
from worker.model.digest import StreamDigest
from worker.upstream.wire.vectors import Vectors

# The pause before the next call to a Redis that refuses writes for now.
_BUSY_S = 0.25


class Embedding:
    """One execution of an embeddings job, while it runs. Any task of this process may call `stop`."""

    def __init__(
        self,
        execution: Execution,
        given: AttemptInput,
        store: JobRecords,
        results: Results,
        clock: Clock,
        metrics: Metrics,
        *,
        max_result_bytes: int,
    ) -> None:
        self.execution = execution
        self.stopped: StopReason | None = None
        self.shown = 0
        """The number of deltas, always 0: stored batches need no rollback."""
        self._given = given
        self._request = given.request
        self._clock = clock
        self._deadline = clock.monotonic() + execution.left_ms / 1000
        self._store = store
        self._results = results
        self._max_result_bytes = max_result_bytes
        self._latency = TokenLatency(metrics, clock, given.target.name)
        self._counted = metrics.embedded.of(given.target.name)
        self._scope = CancelScope()
        self._seq = execution.seq
        self._reports = ReportSequence(execution.epoch, execution.attempt)
        self._embedded: Embedded | None = None
        self._hash = hashlib.sha256()

    def stop(self, reason: StopReason) -> None:
        """Stop this execution. The caller carries out CANCELLED and DRAIN; other reasons mean that it lost the job."""
        if self.stopped is None:
            self.stopped = reason
            self._scope.cancel()

    @property
    def last(self) -> EventId:
        """Return the id of the last event that was logged."""
        return EventId(self.execution.epoch, self._seq)

    @property
    def left_s(self) -> float:
        """Return the seconds until the job's deadline."""
        return self._deadline - self._clock.monotonic()

    async def run(self) -> Ending | AttemptFailed | None:
        """Embed until the end; None if it was stopped."""
        error: AttemptFailed | None = None
        with self._scope:
            try:
                if self.stopped is None:
                    await self._embed(_inputs(self._request))
            except AttemptFailed as failure:
                error = failure
                self._latency.failed(failure)
        if self.stopped is not None:
            return None
        if error is not None:
            return error
        assert self._embedded is not None  # noqa: S101  # there is at least one input
        return with_result(completed([], self._embedded.usage, StreamDigest()), self._embedded)

    async def flushed(self) -> None:
        """Return at once: a stored batch is in the log."""

    def failed(self, error: AttemptFailed) -> Ending:
        """Return the job's end if no attempt follows this failure."""
        embedded = self._embedded
        return with_result(ended_badly(error, embedded.usage if embedded else None, StreamDigest()), embedded)

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        """Write the terminal event. If Redis lost events, `stopped` is BEHIND."""
        answer = await finish(executions, self.execution, ending, self._seq + 1)
        if isinstance(answer, Behind):
            self.stop(StopReason.BEHIND)
        return answer

    async def _embed(self, inputs: list[Any]) -> None:
        self._given.check()
        done = await self._take_up(len(inputs))
        while done < len(inputs):
            batch = inputs[done : done + EMBEDDED_AT_ONCE]
            request = {**self._request, "input": batch}
            vectors = await self._given.target.embed(request, total_s=max(self.left_s, 0.0))
            self._counted.add(len(batch))
            self._check(vectors, len(inputs))
            await self._keep(vectors, done, batch, len(inputs))
            done += len(batch)

    async def _take_up(self, total: int) -> int:
        """Count the inputs that former executions have embedded, after checking the hash of their vectors."""
        job_id = self.execution.job_id
        embedded = await retry_until_redis_answers(lambda: self._store.embedded(job_id))
        if embedded is None:
            return 0
        digest = await retry_until_redis_answers(lambda: self._hashed(embedded))
        if embedded.total != total or digest.hexdigest() != embedded.sha256:
            raise BrokenJob("Checksum mismatch: the stored part of the job's result is damaged.")
        self._hash, self._embedded = digest, embedded
        return embedded.done

    async def _hashed(self, embedded: Embedded) -> "hashlib._Hash":
        digest = hashlib.sha256()
        async for page in self._results.pages(self.execution.job_id, embedded.size, PAGE_BYTES):
            digest.update(page)
        return digest

    def _check(self, vectors: Vectors, total: int) -> None:
        asked, dimensions = self._request.get("dimensions"), vectors.dimensions
        if asked is not None and asked != dimensions:
            raise ProviderRefused(
                f"The model's vectors have {dimensions} dimensions, and the provider did not make {asked} of them.",
                code="invalid_request",
                param="dimensions",
            )
        if self._embedded is not None and self._embedded.dimensions != dimensions:
            raise ProviderGarbage("The provider sent vectors of a different length than before.")
        if total * dimensions * FLOAT_BYTES > self._max_result_bytes:
            raise OutputTooLarge(
                f"{total} vectors of {dimensions} dimensions are larger than {self._max_result_bytes} bytes "
                "(max_result_bytes)."
            )

    async def _keep(self, vectors: Vectors, done: int, batch: list[Any], total: int) -> None:
        former = self._embedded
        place = former.size if former else 0
        self._hash.update(vectors.data)
        counted = vectors.prompt_tokens
        tokens = estimate_input_tokens(batch) if counted is None else counted
        estimated = counted is None or (former is not None and former.source == "estimated")
        embedded = Embedded(
            model=self._given.target.model(str(self._request["model"])),
            done=done + len(batch),
            total=total,
            dimensions=vectors.dimensions,
            prompt_tokens=tokens + (former.prompt_tokens if former else 0),
            source="estimated" if estimated else "provider",
            sha256=self._hash.hexdigest(),
        )
        seq = self._seq + 1
        report = self._reports.next(embedded.done, total, f"{embedded.done} of {total} inputs")
        frame = encode_frame(EventType.PROGRESS, encode_data(report.as_event()), EventId(self.execution.epoch, seq))
        full = await self._keep_with_retries(seq, frame, place, vectors.data, embedded)
        self._seq, self._embedded = seq, embedded
        if full and embedded.done < total:
            raise TenantFull.of_a_job()

    async def _keep_with_retries(self, seq: int, frame: bytes, place: int, part: bytes, embedded: Embedded) -> bool:
        """Store a part, with retries; return whether the tenant is full. A refusal ends this execution."""
        while True:
            answer = await retry_until_redis_answers(
                lambda: self._results.keep(
                    self.execution, seq=seq, frame=frame, place=place, part=part, embedded=embedded
                )
            )
            match answer:
                case Written():
                    return answer.tenant_full
                case Behind():
                    self.stop(StopReason.BEHIND)
                case StopReason():
                    self.stop(answer)
                case Busy():
                    pass  # the same call again, after a pause
            await asyncio.sleep(_BUSY_S)  # a stop ends it


def _inputs(request: Mapping[str, Any]) -> list[Any]:
    inputs = request.get("input")
    if not isinstance(inputs, list) or not inputs:
        raise BrokenJob("The job's request has no inputs.")
    return inputs
