"""Test the attempts of one job with stand-ins for the store and the provider: each outcome, and what it records."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.model.errors import AttemptFailed, Cancelled, DeadlinePassed, ProviderTimeout, TailraceError
from shared.model.events import EventId
from shared.model.jobs import Job, OnDisconnect, Progress
from shared.model.kinds import CHAT
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.model.routes import Continuation, OnStreamFailure
from shared.store.executions import Execution, Executions
from shared.store.queue import Claim
from shared.store.wire.answers import BeginRefusal, FinishAnswer, StopReason, Written
from tests.support.controlled_provider import ControlledProvider
from worker.execution.access import Selector
from worker.execution.attempt import AttemptInput
from worker.execution.attempt_sequence import AttemptSequence
from worker.execution.disposition import Disposition, Outcome
from worker.execution.ending import Ending
from worker.execution.next_attempt import NextAttempt, Plan
from worker.execution.run_services import RunLimits, RunServices
from worker.execution.stop_switch import StopSwitch
from worker.model.digest import PartialAnswer
from worker.upstream.breakers import CallOrigin
from worker.upstream.chain import Chain, ProviderTarget
from worker.upstream.selector import Permit

CLAIM = Claim("job", "default", "w.1", 0.0)
FIRST = NextAttempt(Progress(), "w.1", 0, PartialAnswer())
JOB = Job(
    id="job",
    kind=CHAT,
    tenant="alice",
    lane="default",
    model="m",
    status=State.QUEUED,
    last=EventId(0, 1),
    attempts=0,
    created_ms=1,
    started_ms=0,
    ended_ms=0,
    deadline_ms=10**6,
    abandon_ms=0,
    on_disconnect=OnDisconnect.CONTINUE,
    metadata={},
    outcome={},
)
LATE = ProviderTimeout("Late.")


class Running:
    """Stand for an execution: it ends as the test says, unless it was stopped."""

    left_s = 100.0
    shown = 0

    def __init__(self, execution: Execution, end: Ending | AttemptFailed, stop: StopReason | None) -> None:
        self.execution = execution
        self.stopped = stop
        self._end = end
        self.last = EventId(execution.epoch, 1)

    def stop(self, reason: StopReason) -> None:
        self.stopped = reason

    async def run(self) -> Ending | AttemptFailed | None:
        return None if self.stopped is not None else self._end

    async def flushed(self) -> None:
        """Return at once."""

    def failed(self, error: AttemptFailed) -> Ending:
        return Ending(State.FAILED, {"error": error.code})

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        cast(Parts, executions).calls.append(("finish", ending.state.value))
        return Written()


class Parts:
    """Stand for the store, the selector and the ender, and record their calls."""

    def __init__(
        self,
        *,
        begun: Sequence[BeginRefusal | None] = (),
        ends: Sequence[Ending | AttemptFailed] = (),
        stop: StopReason | None = None,
        permitted: bool = True,
        max_attempts: int = 3,
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._begun, self._ends = list(begun), list(ends)
        self._stop = stop
        self._permitted = permitted
        self.metrics = Metrics()
        self._chain = Chain(
            [ProviderTarget(ControlledProvider(), first_token_s=1, gap_s=1, continuation=Continuation.PREFILL)] * 2,
            max_attempts=max_attempts,
        )

    async def begin(self, job_id: str, owner: str, *, epoch: int, **_: Any) -> Execution | BeginRefusal:
        self.calls.append(("begin", owner, epoch))
        refusal = self._begun.pop(0) if self._begun else None
        return refusal or Execution(job_id, epoch + 1, owner, 1, 1, epoch + 1, 1000)

    async def leave(self, execution: Execution, cause: TailraceError, *, costs: bool, **_: Any) -> bool:
        self.calls.append(("leave", execution.epoch, cause.code, costs))
        return True

    async def read_partial(self, job_id: str) -> tuple[PartialAnswer, EventId]:
        self.calls.append(("read", job_id))
        return PartialAnswer(), EventId(1, 1)

    def start(self, begun: Execution, given: AttemptInput, _: object) -> Running:
        return Running(begun, self._ends.pop(0) if self._ends else Ending(State.COMPLETED, {}), self._stop)

    async def enter(self, job_id: str, targets: object, order: Sequence[int], *_: object) -> Permit | None:
        return Permit(order[0], "p", "m", origin=CallOrigin("alice", {})) if self._permitted else None

    async def free(self, job_id: str, permit: Permit) -> None:
        self.calls.append(("free", permit.target))

    async def end(self, job_id: str, owner: str, error: TailraceError) -> bool:
        self.calls.append(("end", owner, error.code))
        return True

    async def cancellation(self, job_id: str) -> Cancelled:
        return Cancelled.because("cancelled")

    async def end_cancelled(self, execution: Execution) -> bool:
        self.calls.append(("end cancelled", execution.epoch))
        return True

    async def run(self, first: NextAttempt = FIRST, switch: StopSwitch | None = None) -> Outcome:
        """Run the attempts with these parts."""
        kind = SimpleNamespace(start=self.start, spec=SimpleNamespace(streams_text=False))
        services = SimpleNamespace(
            executions=self,
            ender=self,
            kinds={CHAT: kind},
            execution_services=None,
            limits=RunLimits(2, 1000),
            metrics=self.metrics,
            read_partial=self.read_partial,
        )
        plan = Plan(JOB, {"messages": []}, self._chain, OnStreamFailure.CONTINUE)
        selector = SimpleNamespace(enter=self.enter, leave=self.free, failed=lambda *_: None, succeeded=lambda *_: None)
        attempts = AttemptSequence(
            CLAIM, plan, cast(RunServices, services), cast(Selector, selector), switch or StopSwitch()
        )
        return await attempts.run(first)


async def test_an_attempt_that_completes_returns_the_ended_job_and_its_permit() -> None:
    parts = Parts()

    outcome = await parts.run()

    assert not isinstance(outcome, (Disposition, float))
    assert parts.calls == [("begin", "w.1", 0), ("finish", "completed"), ("free", 0)]


async def test_a_failed_attempt_is_followed_by_one_with_a_name_of_its_own_at_the_next_target() -> None:
    parts = Parts(ends=[LATE])

    await parts.run()

    begins = [call for call in parts.calls if call[0] == "begin"]
    assert begins == [("begin", "w.1", 0), ("begin", "w.1.1", 1)]
    assert [call for call in parts.calls if call[0] == "free"] == [("free", 0), ("free", 1)]


async def test_a_job_gives_its_slot_back_for_a_pause_after_a_round_of_failures() -> None:
    parts = Parts(ends=[LATE, LATE])

    outcome = await parts.run()

    assert isinstance(outcome, float)
    assert ("leave", 2, "provider_timeout", True) in parts.calls


async def test_the_last_failure_ends_the_job() -> None:
    parts = Parts(ends=[LATE, LATE], max_attempts=2)

    assert await parts.run() is Disposition.ENDED
    assert parts.calls[-2:] == [("finish", "failed"), ("free", 1)]


async def test_without_a_permit_the_job_gives_its_slot_back_and_begins_nothing() -> None:
    parts = Parts(permitted=False)

    assert await parts.run() == 0.5
    assert parts.calls == []


async def test_without_a_permit_a_failed_attempt_is_left_with_its_cause() -> None:
    parts = Parts(permitted=False)
    former = Execution("job", 1, "w.1", 1, 1, 1, 1000)
    again = NextAttempt(Progress(), "w.1.1", 1, PartialAnswer(), EventId(1, 1), LATE, former)

    assert await parts.run(again) == 0.5
    assert parts.calls == [("leave", 1, "provider_timeout", True)]


@pytest.mark.parametrize(
    ("refusal", "outcome", "ended_as"),
    [
        (BeginRefusal.ENDED, Disposition.ENDED, None),
        (BeginRefusal.MISSING, Disposition.ENDED, None),
        (BeginRefusal.STALE, Disposition.ELSEWHERE, None),
        (BeginRefusal.CANCELLING, Disposition.ENDED, "cancelled"),
        (BeginRefusal.EXPIRED, Disposition.ENDED, DeadlinePassed.code),
    ],
)
async def test_a_refused_begin_ends_the_job_only_if_nothing_else_does(
    refusal: BeginRefusal, outcome: Disposition, ended_as: str | None
) -> None:
    parts = Parts(begun=[refusal])

    assert await parts.run() is outcome
    assert [call for call in parts.calls if call[0] == "end"] == ([("end", "w.1", ended_as)] if ended_as else [])


async def test_a_log_that_has_grown_is_read_again_before_the_next_begin() -> None:
    parts = Parts(begun=[BeginRefusal.MOVED])

    await parts.run()

    assert [call[0] for call in parts.calls] == ["begin", "free", "read", "begin", "finish", "free"]


@pytest.mark.parametrize(("reason", "code"), [(StopReason.DRAIN, "drain"), (StopReason.BEHIND, "behind")])
async def test_an_interrupted_attempt_is_handed_back_at_no_cost(reason: StopReason, code: str) -> None:
    parts = Parts(stop=reason)

    assert await parts.run() == 0.0
    assert [call for call in parts.calls if call[0] == "leave"] == [("leave", 1, code, False)]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (StopReason.LOST, Disposition.ELSEWHERE),
        (StopReason.FENCED, Disposition.ELSEWHERE),
        (StopReason.ENDED, Disposition.ENDED),
        (StopReason.MISSING, Disposition.ENDED),
    ],
)
async def test_a_stopped_attempt_writes_nothing(reason: StopReason, outcome: Disposition) -> None:
    parts = Parts(stop=reason)

    assert await parts.run() is outcome
    assert parts.calls == [("begin", "w.1", 0), ("free", 0)]


async def test_a_cancelled_attempt_ends_the_job_with_its_own_execution() -> None:
    parts = Parts(stop=StopReason.CANCELLED)

    assert await parts.run() is Disposition.ENDED
    assert ("end cancelled", 1) in parts.calls


async def test_the_switch_stops_the_attempts() -> None:
    parts, switch = Parts(), StopSwitch()
    switch.drain()

    assert await parts.run(switch=switch) == 0.0


async def test_only_the_first_attempt_of_a_new_job_counts_its_wait() -> None:
    parts = Parts(ends=[LATE])

    await parts.run()

    assert sum(parts.metrics.wait.of("default").numbers()[:-1]) == 1
