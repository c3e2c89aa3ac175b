"""Test the order and the repetition of completion steps: the queue entry goes last, and only if all others are done."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.model.ended_job import EndedJob
from shared.model.lifecycle import State
from shared.store.completions import Claimed, ClaimedElsewhere, CompletionClaim, Completions, NotEnded
from shared.store.jobs import JobRecords
from shared.store.queue import Queue
from tests.support.completion import RecordedStep
from worker.execution.completion import CompletionSteps

JOB = EndedJob("job", "alice", "default", "chat", "a-model", State.COMPLETED, 1, None, "")


class Parts:
    """Stand for the claims, the queue and the records; `calls` are those of the runner."""

    def __init__(self, claim: CompletionClaim | None = None, *, lease_s: float = 10.0, holds: bool = True) -> None:
        self.lease_s = lease_s
        self.calls: list[str] = []
        self._claim = claim or Claimed(JOB, frozenset())
        self._holds = holds

    async def claim(self, job_id: str) -> CompletionClaim:
        self.calls.append("claim")
        return self._claim

    async def record(self, job_id: str, step: str) -> bool:
        self.calls.append(f"record {step}")
        return self._holds

    async def leave_lane(self, job_id: str, lane: str, check_in_s: float) -> None:
        self.calls.append(f"leave {lane} {check_in_s:g}")

    async def done(self, job_id: str, lane: str) -> None:
        self.calls.append(f"done {lane}")

    async def load_many(self, job_ids: Sequence[str]) -> list[None]:
        self.calls.append("load")
        return [None] * len(job_ids)


class Last(RecordedStep):
    """Remove the queue entry, for a test that only needs to know when."""

    def __init__(self, parts: Parts) -> None:
        super().__init__("last", repeatable=True)
        self._parts = parts

    async def run(self, job: EndedJob) -> None:
        self._parts.calls.append(f"last {job.lane}")


def steps_of(parts: Parts, *steps: RecordedStep) -> CompletionSteps:
    everything = cast(Any, parts)
    return CompletionSteps(
        [*steps, Last(parts)], cast(Completions, everything), cast(Queue, everything), cast(JobRecords, everything)
    )


async def test_repeatable_steps_of_a_job_that_was_just_ended_need_no_claim() -> None:
    parts, step = Parts(), RecordedStep(repeatable=True)

    await steps_of(parts, step).run("job", "default", JOB)

    assert (parts.calls, step.jobs) == (["last default"], [JOB])


async def test_a_step_that_may_not_repeat_needs_a_claim_and_is_recorded() -> None:
    parts, step = Parts(), RecordedStep("once")

    await steps_of(parts, RecordedStep(repeatable=True), step).run("job", "default", JOB)

    assert (parts.calls, step.jobs) == (["claim", "record once", "last default"], [JOB])


async def test_a_job_that_another_process_ended_is_claimed_to_read_its_record() -> None:
    parts, step = Parts(), RecordedStep(repeatable=True)

    await steps_of(parts, step).run("job", "default")

    assert (parts.calls, step.jobs) == (["claim", "last default"], [JOB])


async def test_the_entry_is_removed_from_the_lane_in_which_it_was_found() -> None:
    parts = Parts(Claimed(replace(JOB, lane=""), frozenset()))

    await steps_of(parts).run("job", "low")

    assert parts.calls == ["claim", "last low"]


async def test_a_step_that_is_done_does_not_run_again() -> None:
    parts, first, second = Parts(Claimed(JOB, frozenset({"first"}))), RecordedStep("first"), RecordedStep("second")

    await steps_of(parts, first, second).run("job", "default")

    assert (first.jobs, second.jobs) == ([], [JOB])
    assert parts.calls == ["claim", "record second", "last default"]


async def test_a_job_that_another_process_completes_is_checked_when_its_claim_ends() -> None:
    parts, step = Parts(ClaimedElsewhere(1.5)), RecordedStep()

    await steps_of(parts, step).run("job", "default")

    assert (parts.calls, step.jobs) == (["claim", "leave default 1.5"], [])


async def test_a_job_without_a_record_only_leaves_the_queue() -> None:
    parts, step = Parts(NotEnded()), RecordedStep()

    await steps_of(parts, step).run("job", "default")

    assert (parts.calls, step.jobs) == (["claim", "done default", "load"], [])


async def test_a_job_whose_owner_deleted_it_right_after_its_end_gets_its_steps_all_the_same() -> None:
    parts, step = Parts(NotEnded()), RecordedStep()

    await steps_of(parts, step).run("job", "default", JOB)

    assert step.jobs == [JOB]


async def test_a_step_that_fails_keeps_the_queue_entry_and_holds_back_no_other_step() -> None:
    parts, failing = Parts(), RecordedStep("failing", failures=[ValueError("a defect")])
    other = RecordedStep("other")

    await steps_of(parts, failing, other).run("job", "default")

    assert parts.calls == ["claim", "record other", "leave default 30"]
    assert other.jobs == [JOB]


async def test_a_step_whose_claim_was_lost_keeps_the_queue_entry() -> None:
    parts = Parts(holds=False)

    await steps_of(parts, RecordedStep("once")).run("job", "default")

    assert parts.calls == ["claim", "record once", "leave default 30"]


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), TimeoutError("late")])
async def test_an_outage_is_raised_to_the_caller_and_the_steps_may_run_again(error: Exception) -> None:
    parts, step = Parts(), RecordedStep(repeatable=True, failures=[error])
    steps = steps_of(parts, step)
    with pytest.raises(type(error)):
        await steps.run("job", "default", JOB)

    await steps.run("job", "default", JOB)

    assert (parts.calls, step.jobs) == (["last default"], [JOB, JOB])


async def test_steps_that_take_too_long_are_stopped_within_half_a_lease() -> None:
    class Endless(RecordedStep):
        async def run(self, job: EndedJob) -> None:
            await asyncio.Event().wait()

    parts = Parts(lease_s=0.1)

    await steps_of(parts, Endless(repeatable=True)).run("job", "default", JOB)

    assert parts.calls == ["leave default 30"]


async def test_one_process_completes_a_job_once_at_a_time() -> None:
    class Waiting(RecordedStep):
        go_on = asyncio.Event()

        async def run(self, job: EndedJob) -> None:
            await super().run(job)
            await self.go_on.wait()

    parts, step = Parts(), Waiting(repeatable=True)
    steps = steps_of(parts, step)
    first = asyncio.create_task(steps.run("job", "default", JOB))
    await step.ran()

    await steps.run("job", "default", JOB)
    assert parts.calls == []
    step.go_on.set()
    await first

    assert (parts.calls, step.jobs) == (["last default"], [JOB])


@pytest.mark.parametrize("names", [("one", "one"), ("two words",), ("",), ("last",)])
def test_names_differ_and_have_no_spaces(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="must differ and have no spaces"):
        steps_of(Parts(), *map(RecordedStep, names))
