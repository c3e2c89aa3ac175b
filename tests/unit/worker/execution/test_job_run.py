"""Test the run of one job until its first attempt: what it reads, and that a process that drains reads nothing."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from shared.model.errors import JobNotFound
from shared.model.jobs import Job
from shared.store.queue import Claim
from shared.store.wire.answers import StopReason, StoredJob
from worker.execution.completion import CompletionSteps
from worker.execution.disposition import Disposition
from worker.execution.job_run import JobRun
from worker.execution.run_services import RunServices
from worker.execution.runs import Runs

CLAIM = Claim("job", "default", "owner", 0.0)


class NoServices:
    """Provide no services, for a run that needs none of them."""

    store = None


class Store:
    """Stand in for the records: no job has one, wherever it is read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.store = self

    def read_taken(self, job_id: str, stored: StoredJob) -> tuple[Job, dict[str, Any]]:
        self.read.append("as it was taken")
        raise JobNotFound(job_id)

    async def load_with_request(self, job_id: str) -> tuple[Job, dict[str, Any]]:
        self.read.append("now")
        raise JobNotFound(job_id)


@pytest.mark.parametrize(
    ("stored", "left_s", "read"),
    [
        (StoredJob({}, b"{}"), 60.0, "as it was taken"),
        (StoredJob({}, b"{}"), 0.0, "now"),
        (None, 60.0, "now"),
    ],
    ids=["good claim", "a claim that has run out", "two servers"],
)
async def test_a_job_is_read_again_unless_its_claim_has_been_good_since(
    stored: StoredJob | None, left_s: float, read: str
) -> None:
    store, good_until = Store(), asyncio.get_running_loop().time() + left_s

    run = JobRun(replace(CLAIM, good_until=good_until), cast(RunServices, store), stored)

    assert await run.run() is Disposition.UNKNOWN
    assert store.read == [read]


async def test_a_run_of_a_draining_process_hands_its_job_back_at_once() -> None:
    assert await JobRun(CLAIM, cast(RunServices, NoServices()), draining=True).run() == 0.0


async def test_runs_that_drain_hand_back_the_next_claim_and_forget_it() -> None:
    runs = Runs(cast(RunServices, NoServices()), cast(CompletionSteps, None))
    runs.drain()

    assert await runs.run(CLAIM) == 0.0
    assert (runs.executions(), runs.execution("job")) == ([], None)
    runs.stop("job", StopReason.CANCELLED)
