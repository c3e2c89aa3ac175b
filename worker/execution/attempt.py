"""One execution of a chat: the chunks of the provider become deltas in the job's log.

Not here: the decision after a failure (attempt_sequence.py), and the chunks themselves (worker/upstream/chain.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from anyio import CancelScope

from shared.model.errors import AttemptFailed, OutputTooLarge, TenantFull
from shared.model.events import EventId, EventType, encode_data
from shared.model.jobs import Usage
from shared.model.metrics import Metrics
from shared.store.executions import Execution, Executions
from shared.store.wire.answers import FinishAnswer, StopReason
from worker.execution.ending import Ending, completed, ended_badly, estimate_tokens, finish_with_outbox
from worker.execution.pump import Pump
from worker.execution.token_latency import TokenLatency
from worker.model.continuation import limit_is_reached, rest_of
from worker.model.digest import PartialAnswer, StreamDigest
from worker.upstream.chain import ProviderTarget
from worker.upstream.wire.chunk import Chunk
from worker.upstream.wire.usage import read_usage


@dataclass(frozen=True, slots=True)
class AttemptInput:
    """The request of an attempt, its target, and the partial answer that it continues, if there is one.

    `check` raises CircuitOpen if the target must not be called.
    """

    request: Mapping[str, Any]
    target: ProviderTarget
    partial: PartialAnswer | None
    check: Callable[[], None]


class Attempt:
    """One execution of a chat, while it runs. Any task of this process may call `stop`."""

    def __init__(
        self,
        execution: Execution,
        given: AttemptInput,
        pump: Pump,
        metrics: Metrics,
        *,
        max_log_bytes: int,
    ) -> None:
        self.execution = execution
        self.stopped: StopReason | None = None
        self._given = given
        self._max_log_bytes = max_log_bytes
        self._clock = pump.clock
        self._deadline = pump.clock.monotonic() + execution.left_ms / 1000
        self._latency = TokenLatency(metrics, pump.clock, given.target.name)
        self._outbox = pump.open(execution, self.stop)
        self._scope = CancelScope()
        self._digest = given.partial.continued() if given.partial else StreamDigest()
        self._logged_before = self._digest.deltas
        self._finish_reasons: dict[int, str] = {}
        self._usage: Mapping[str, Any] | None = None

    @property
    def last(self) -> EventId:
        """Return the id of the last event that was put."""
        return EventId(self.execution.epoch, self._outbox.seq)

    @property
    def left_s(self) -> float:
        """Return the seconds until the job's deadline."""
        return self._deadline - self._clock.monotonic()

    @property
    def shown(self) -> int:
        """Return the number of deltas of the answer, those that it continues included."""
        return self._digest.deltas

    def stop(self, reason: StopReason) -> None:
        """Stop this execution. The caller carries out CANCELLED and DRAIN; other reasons mean that it lost the job."""
        if self.stopped is None:
            self.stopped = reason
            self._scope.cancel()

    async def run(self) -> Ending | AttemptFailed | None:
        """Generate until the end; None if it was stopped.

        When this returns, everything put is in the log. After a whole answer, `finish` may write the last of it.
        """
        error: AttemptFailed | None = None
        with self._scope:
            try:
                if self.stopped is None:
                    await self._generate()
            except AttemptFailed as failure:
                error = failure
                self._latency.failed(failure)
            if error is not None or not self._outbox.hold_last():
                await self._outbox.flushed()
        if self.stopped is not None:
            return None
        return error or self._completed()

    async def flushed(self) -> None:
        """Wait until all deltas generated before a stop are in the log."""
        await self._outbox.flushed()

    def failed(self, error: AttemptFailed) -> Ending:
        """Return the job's end if no attempt follows this failure."""
        usage = self._counted("partial") if self._digest.deltas else None
        return ended_badly(error, usage, self._digest)

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        """Write the terminal event after all deltas, the last of them in the same step.

        Events that Redis lost meanwhile are sent again first. If this fails, `stopped` has the reason.
        """
        return await finish_with_outbox(executions, self._outbox, ending)

    def _completed(self) -> Ending:
        ending, first_at = completed(self._reasons(), self._counted("estimated"), self._digest), self._latency.first_at
        if first_at is None or self._given.partial is not None:
            return ending
        return replace(ending, first_token_left_s=self._deadline - first_at)

    async def _generate(self) -> None:
        request, target, partial = self._given.request, self._given.target, self._given.partial
        self._given.check()
        if partial is not None:
            if limit_is_reached(request, partial):
                self._finish_reasons[0] = "length"
                return
            request = rest_of(request, partial, target.continuation)
        async with target.stream(request, total_s=self.execution.left_ms / 1000) as chunks:
            async for chunk in chunks:
                await self._put(chunk)

    async def _put(self, chunk: Chunk) -> None:
        if chunk.deltas:
            self._latency.came(len(chunk.deltas))
        for delta in chunk.deltas:
            data = encode_data(delta)
            self._digest.add(data)
            await self._outbox.put(EventType.DELTA, data)
        if self._outbox.log_bytes > self._max_log_bytes:
            raise OutputTooLarge(f"The answer is larger than {self._max_log_bytes} bytes (max_log_bytes).")
        if self._outbox.full:
            raise TenantFull.of_a_job()
        self._finish_reasons.update(chunk.finished)
        if chunk.usage is not None:
            self._usage = chunk.usage

    def _reasons(self) -> list[str | None]:
        return [self._finish_reasons.get(index) for index in range(max(self._finish_reasons, default=-1) + 1)]

    def _counted(self, otherwise: str) -> Usage:
        """Return the provider's count, or an estimate that says so."""
        counted = read_usage(self._usage or {})
        if counted is None:
            return Usage(estimate_tokens(self._given.request), self._digest.deltas, otherwise)
        if before := self._logged_before:
            # This provider counted the beginning as a part of the prompt, and only the rest as the answer.
            prompt, completion = max(counted.prompt_tokens - before, 0), before + counted.completion_tokens
            return Usage(prompt, completion, "estimated")
        return counted
