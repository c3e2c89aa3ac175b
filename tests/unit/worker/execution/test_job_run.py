"""Test one run of a job: a stop reaches the execution that runs, or else the next one."""

from typing import cast

import pytest

from shared.model.errors import AttemptFailed, ProviderTimeout
from shared.model.events import EventId
from shared.store.answers import FinishAnswer, StopReason
from shared.store.executions import Execution, Executions
from shared.store.queue import Claim
from worker.execution.completion import CompletionSteps
from worker.execution.ending import Ending
from worker.execution.job_run import Disposition, JobRun, RunServices, disposition
from worker.execution.runs import Runs

CLAIM = Claim("job", "default", "owner", 0.0)


class Recorded:
    """Record why an execution was stopped."""

    last = EventId(1, 1)
    left_s = 1.0
    shown = 0

    def __init__(self) -> None:
        self.execution = cast(Execution, None)
        self.stopped: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        self.stopped = reason

    async def run(self) -> Ending | AttemptFailed | None:
        return ProviderTimeout("Late.")

    async def flushed(self) -> None:
        """Return at once."""

    def failed(self, error: AttemptFailed) -> Ending:
        raise AssertionError(error)

    async def finish(self, executions: Executions, ending: Ending) -> FinishAnswer:
        raise AssertionError(ending)


class NoServices:
    """Provide no services, for a run that needs none of them."""

    store = None
    executions = None
    providers = None


def job_run(*, draining: bool = False) -> JobRun:
    return JobRun(CLAIM, cast(RunServices, NoServices()), draining=draining)


def test_a_stop_reaches_the_execution_that_runs() -> None:
    run, execution = job_run(), Recorded()
    run.execution = execution

    run.stop(StopReason.CANCELLED)

    assert execution.stopped is StopReason.CANCELLED


async def test_a_stop_before_the_execution_begins_stops_it_and_not_the_one_after() -> None:
    run, first, second = job_run(), Recorded(), Recorded()

    run.stop(StopReason.CANCELLED)
    await run._run_execution(first)
    await run._run_execution(second)

    assert (first.stopped, second.stopped, run.execution) == (StopReason.CANCELLED, None, None)


async def test_a_drain_stops_the_execution_that_runs_and_each_later_one() -> None:
    run, first, second = job_run(), Recorded(), Recorded()
    run.execution = first

    run.drain()
    await run._run_execution(second)

    assert (first.stopped, second.stopped) == (StopReason.DRAIN, StopReason.DRAIN)


async def test_a_run_of_a_draining_process_hands_its_job_back_at_once() -> None:
    assert await job_run(draining=True).run() == 0.0


async def test_runs_that_drain_hand_back_the_next_claim_and_forget_it() -> None:
    runs = Runs(cast(RunServices, NoServices()), cast(CompletionSteps, None))
    runs.drain()

    assert await runs.run(CLAIM) == 0.0
    assert (runs.executions(), runs.execution("job")) == ([], None)
    runs.stop("job", StopReason.CANCELLED)


@pytest.mark.parametrize(("ended", "expected"), [(True, Disposition.ENDED), (False, Disposition.ELSEWHERE)])
def test_a_job_that_has_ended_is_not_elsewhere(ended: bool, expected: Disposition) -> None:
    assert disposition(ended) is expected
