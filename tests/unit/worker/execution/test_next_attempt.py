"""Test the next attempt of a job: the targets that can continue, their order, and the record in the store."""

import json
from dataclasses import replace

import pytest

from shared.model.errors import (
    AttemptFailed,
    Drained,
    Interrupted,
    LogBehind,
    ProviderRefused,
    ProviderTimeout,
    WorkerLost,
)
from shared.model.events import EventId
from shared.model.jobs import ExecutionRecord, Job, OnDisconnect, Progress
from shared.model.kinds import CHAT
from shared.model.lifecycle import State
from shared.model.routes import Continuation, OnStreamFailure
from shared.store.executions import ROLLED_BACK
from tests.support.controlled_provider import ControlledProvider
from worker.execution.attempt import AttemptInput
from worker.execution.next_attempt import (
    NextAttempt,
    Plan,
    attempt_input,
    cause_of_interruption,
    continuable_targets,
    deltas_offset,
    may_follow,
    refuses_to_continue,
    succession,
    target_orders,
)
from worker.model.digest import PartialAnswer
from worker.upstream.breakers import CallOrigin
from worker.upstream.chain import Chain, ProviderTarget
from worker.upstream.selector import Permit

EXECUTION = ExecutionRecord(1, 1, "m", "p", None, 2)
PARTIAL = PartialAnswer()
PARTIAL.add(json.dumps({"content": "Hel"}).encode())
NOTHING = PartialAnswer()
SEEN = EventId(1, 2)
JOB = Job(
    id="j",
    kind=CHAT,
    tenant="alice",
    lane="default",
    model="m",
    status=State.RUNNING,
    last=SEEN,
    attempts=1,
    created_ms=1,
    started_ms=2,
    ended_ms=0,
    deadline_ms=10**6,
    abandon_ms=0,
    on_disconnect=OnDisconnect.CONTINUE,
    metadata={},
    outcome={},
)


def target(continuation: Continuation) -> ProviderTarget:
    return ProviderTarget(ControlledProvider(), first_token_s=1, gap_s=1, continuation=continuation)


# Targets 1 and 2 can continue a partial answer, target 0 can't.
CHAIN = Chain([target(Continuation.NONE), target(Continuation.PREFILL), target(Continuation.PREFIX)])


def plan(policy: OnStreamFailure = OnStreamFailure.CONTINUE, *, append_only: bool = False) -> Plan:
    return Plan(replace(JOB, append_only_reader=append_only), {"messages": []}, CHAIN, policy)


def upcoming(partial: PartialAnswer = PARTIAL, seen: EventId | None = SEEN) -> NextAttempt:
    return NextAttempt(Progress(), "owner", 1, partial, seen)


def permit(position: int) -> Permit:
    return Permit(position, "p", "m", origin=CallOrigin("alice", {}))


def test_a_job_has_its_own_policy_before_that_of_its_chain() -> None:
    chain = replace(CHAIN, on_stream_failure=OnStreamFailure.FAIL)
    own = replace(JOB, on_stream_failure=OnStreamFailure.ROLLBACK)

    assert Plan.of(JOB, {}, chain).policy is OnStreamFailure.FAIL
    assert Plan.of(own, {}, chain).policy is OnStreamFailure.ROLLBACK


def test_each_target_can_begin_an_answer_and_only_some_can_continue_one() -> None:
    assert continuable_targets(plan(), NOTHING, Progress()) == {0, 1, 2}
    assert continuable_targets(plan(), PARTIAL, Progress()) == {1, 2}
    assert continuable_targets(plan(), PARTIAL, Progress(excluded=(1,))) == {2}
    assert continuable_targets(plan(), PARTIAL, Progress(cannot_continue=(1, 2))) == frozenset()


@pytest.mark.parametrize("policy", [OnStreamFailure.ROLLBACK, OnStreamFailure.FAIL])
def test_no_target_continues_an_answer_against_the_policy(policy: OnStreamFailure) -> None:
    assert continuable_targets(plan(policy), PARTIAL, Progress()) == frozenset()


def test_an_attempt_may_follow_unless_the_policy_or_the_reader_forbids_it() -> None:
    none_left = Progress(cannot_continue=(1, 2))

    assert may_follow(plan(OnStreamFailure.FAIL), NOTHING, Progress())
    assert not may_follow(plan(OnStreamFailure.FAIL), PARTIAL, Progress())
    assert may_follow(plan(OnStreamFailure.ROLLBACK), PARTIAL, Progress())
    assert may_follow(plan(append_only=True), PARTIAL, Progress())
    assert not may_follow(plan(append_only=True), PARTIAL, none_left)
    assert may_follow(plan(), PARTIAL, none_left)


def test_targets_that_can_continue_are_called_before_the_others() -> None:
    first, others = target_orders(plan(), upcoming())

    assert (set(first), others) == ({1, 2}, [0])


def test_an_append_only_reader_never_gets_a_target_that_starts_over() -> None:
    first, others = target_orders(plan(append_only=True), upcoming())

    assert (set(first), others) == ({1, 2}, [])


def test_the_input_has_the_partial_answer_only_if_its_target_continues_it() -> None:
    assert attempt_input(plan(), upcoming(), permit(1)).partial is PARTIAL
    assert attempt_input(plan(), upcoming(), permit(0)).partial is None
    assert attempt_input(plan(), upcoming(NOTHING), permit(1)).partial is None


def test_the_first_execution_succeeds_nothing() -> None:
    given = attempt_input(plan(), upcoming(NOTHING, None), permit(1))

    assert succession(upcoming(NOTHING, None), given) is None


@pytest.mark.parametrize(
    ("partial", "position", "resumed_from"),
    [(PARTIAL, 1, SEEN), (PARTIAL, 0, ROLLED_BACK), (NOTHING, 1, None)],
    ids=["continues", "starts over", "nothing was logged"],
)
def test_the_store_records_the_position_from_which_an_attempt_resumes(
    partial: PartialAnswer, position: int, resumed_from: EventId | None
) -> None:
    following = upcoming(partial)
    recorded = succession(following, attempt_input(plan(), following, permit(position)))

    assert recorded is not None
    assert (recorded.resumed_from, recorded.former) == (resumed_from, "")
    assert isinstance(recorded.cause, WorkerLost)


@pytest.mark.parametrize("cause", [Drained("It was stopped."), LogBehind("It was lost.")])
def test_the_record_has_the_cause_of_an_interruption(cause: Interrupted) -> None:
    error = {"code": cause.code, "message": str(cause)}
    left = replace(JOB, executions=(replace(EXECUTION, error=error),))

    read = cause_of_interruption(left)

    assert (type(read), str(read)) == (type(cause), str(cause))


def test_a_job_that_still_has_an_owner_has_lost_its_worker() -> None:
    assert isinstance(cause_of_interruption(replace(JOB, owner="w")), WorkerLost)
    assert type(cause_of_interruption(JOB)) is Interrupted


@pytest.mark.parametrize(
    ("partial", "shown", "error", "refuses"),
    [
        (PARTIAL, 1, ProviderRefused("No.", code="invalid_request"), True),
        (PARTIAL, 2, ProviderRefused("No.", code="invalid_request"), False),
        (None, 0, ProviderRefused("No.", code="invalid_request"), False),
        (PARTIAL, 1, ProviderTimeout("Late."), False),
    ],
    ids=["refused", "after a delta", "asked to begin", "timed out"],
)
def test_a_provider_refuses_to_continue_only_before_its_first_delta(
    partial: PartialAnswer | None, shown: int, error: AttemptFailed, refuses: bool
) -> None:
    given = AttemptInput({}, CHAIN.targets[1], partial, lambda: None)

    assert refuses_to_continue(given, shown, error) is refuses


def test_the_deltas_of_an_attempt_follow_its_beginning_and_those_that_it_continues() -> None:
    continued, started_over = (AttemptInput({}, CHAIN.targets[1], each, lambda: None) for each in (PARTIAL, None))

    assert deltas_offset(upcoming(NOTHING, None), started_over) == -1
    assert deltas_offset(upcoming(PARTIAL, EventId(1, 9)), continued) == PARTIAL.deltas - 1
    assert deltas_offset(upcoming(PARTIAL, EventId(1, 9)), started_over) == -2
