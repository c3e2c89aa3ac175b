"""Test the handler of claimed jobs: run, give back, and end those with an unreadable message."""

from typing import cast

import pytest

from shared.model.errors import TailraceError
from shared.store.queue import Claim, Queue
from shared.store.wire.answers import StoredJob
from worker.dispatch.claimed_jobs import ClaimedJobs
from worker.dispatch.leases import Leases
from worker.execution.completion import CompletionSteps
from worker.execution.job_end import JobEnder
from worker.execution.runs import Runs

CLAIM = Claim("job", "low", "w.1", 0.0)
STORED = StoredJob({}, b"{}")


class Parts:
    """Stand in for the other parts of the worker, and record their calls."""

    def __init__(self, *, give_back_in_s: float | None = None, message: bool = True, ended: bool = True) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._give_back_in_s = give_back_in_s
        self._message = message
        self._ended = ended

    def claim_of(self, job_id: str) -> Claim:
        assert job_id == CLAIM.job_id
        return CLAIM

    def pop_stored(self, job_id: str) -> StoredJob | None:
        assert job_id == CLAIM.job_id
        return STORED

    async def give_back(self, job_id: str, in_s: float) -> None:
        self.calls.append(("give back", job_id, in_s))

    async def has_message(self, job_id: str) -> bool:
        return self._message

    async def end(self, job_id: str, owner: str, error: TailraceError) -> bool:
        self.calls.append(("end", job_id, owner, error.code))
        return self._ended

    def jobs(self) -> ClaimedJobs:
        """Return the handler that uses these parts."""
        return ClaimedJobs(
            cast(Queue, self),
            cast(Leases, self),
            cast(Runs, _Runs(self)),
            cast(JobEnder, self),
            cast(CompletionSteps, _Steps(self)),
        )

    async def run(self, claim: Claim, stored: StoredJob | None) -> float | None:
        """Record a run."""
        assert stored is STORED
        self.calls.append(("run", claim.job_id))
        return self._give_back_in_s


class _Runs:
    def __init__(self, parts: Parts) -> None:
        self.run = parts.run


class _Steps:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self, job_id: str, lane: str) -> None:
        self._parts.calls.append(("complete", job_id, lane))


async def test_a_job_that_ends_here_is_not_given_back() -> None:
    parts = Parts()

    await parts.jobs().run_job("job")

    assert parts.calls == [("run", "job")]


@pytest.mark.parametrize("in_s", [0.0, 2.5])
async def test_a_job_that_leaves_this_process_is_given_back_after_its_pause(in_s: float) -> None:
    parts = Parts(give_back_in_s=in_s)

    await parts.jobs().run_job("job")

    assert parts.calls == [("run", "job"), ("give back", "job", in_s)]


async def test_a_job_with_a_garbage_message_is_ended_and_completed() -> None:
    parts = Parts()

    await parts.jobs().end_unreadable("job")

    assert parts.calls == [("end", "job", "w.1", "broken_job"), ("complete", "job", "low")]


async def test_a_job_that_another_worker_has_is_not_completed() -> None:
    parts = Parts(ended=False)

    await parts.jobs().end_unreadable("job")

    assert parts.calls == [("end", "job", "w.1", "broken_job")]


async def test_a_job_whose_message_the_queue_has_lost_is_run() -> None:
    parts = Parts(message=False)

    await parts.jobs().end_unreadable("job")

    assert parts.calls == [("run", "job")]
