"""Test the run of one job in a process that drains: the job is handed back before anything is read."""

from typing import cast

from shared.store.queue import Claim
from shared.store.wire.answers import StopReason
from worker.execution.completion import CompletionSteps
from worker.execution.job_run import JobRun
from worker.execution.run_services import RunServices
from worker.execution.runs import Runs

CLAIM = Claim("job", "default", "owner", 0.0)


class NoServices:
    """Provide no services, for a run that needs none of them."""

    store = None


async def test_a_run_of_a_draining_process_hands_its_job_back_at_once() -> None:
    assert await JobRun(CLAIM, cast(RunServices, NoServices()), draining=True).run() == 0.0


async def test_runs_that_drain_hand_back_the_next_claim_and_forget_it() -> None:
    runs = Runs(cast(RunServices, NoServices()), cast(CompletionSteps, None))
    runs.drain()

    assert await runs.run(CLAIM) == 0.0
    assert (runs.executions(), runs.execution("job")) == ([], None)
    runs.stop("job", StopReason.CANCELLED)
