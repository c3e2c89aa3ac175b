"""Test the leases of one process on a real server: renewals, lost claims, and jobs that are given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from shared.model.jobs import new_job_id
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.client import REDIS_FAULTS, open_client
from shared.store.executions import Execution, Executions
from shared.store.queue import Claim
from shared.store.wire.answers import StopReason
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, captured_logs, make_spec
from worker.dispatch.leases import Leases
from worker.execution.executions import RunningExecution
from worker.execution.runs import Runs

LANE = "default"
LEASE_S = 10.0


class Running:
    """Stand in for an execution that runs, and record why it was stopped."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.stopped: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Record the first reason."""
        self.stopped = self.stopped or reason


class RunningHere:
    """Stand in for the runs of the process: the executions that the test has begun."""

    def __init__(self) -> None:
        self.by_job: dict[str, Running] = {}

    def add(self, execution: Execution) -> Running:
        """Let an execution run."""
        running = self.by_job[execution.job_id] = Running(execution)
        return running

    def execution(self, job_id: str) -> RunningExecution | None:
        """Return the execution of a job."""
        return cast(RunningExecution | None, self.by_job.get(job_id))

    def executions(self) -> list[RunningExecution]:
        """Return all executions."""
        return cast(list[RunningExecution], list(self.by_job.values()))


@pytest.fixture
def runs() -> RunningHere:
    """Return the runs of the process, none at first."""
    return RunningHere()


@pytest.fixture
def leases(core: Core, runs: RunningHere) -> Leases:
    """Return the leases under test."""
    return leases_of(core, runs)


def leases_of(core: Core, runs: RunningHere, executions: Executions | None = None, lease_s: float = LEASE_S) -> Leases:
    return Leases(core.queue, executions or core.executions, cast(Runs, runs), slots=2, lease_s=lease_s)


async def claimed(core: Core, leases: Leases) -> Claim:
    """Take a new job as the dispatcher does."""
    spec = make_spec(lane=LANE)
    await core.queue_admission.admit(spec, max_depth=10, retention_s=RETENTION_S)
    await core.store.create(spec, 1)
    owner = leases.next_owner()
    await core.client.set(core.keys.arq.in_progress + spec.id, owner, px=1000)
    return Claim(spec.id, LANE, owner, 0.0)


async def held(core: Core, leases: Leases, runs: RunningHere) -> tuple[Claim, Running]:
    """Hold a new job that runs here."""
    claim = await claimed(core, leases)
    assert leases.hold(claim) is not None
    return claim, runs.add(await core.begin(claim.job_id, claim.owner))


async def left_ms(core: Core, claim: Claim) -> int:
    return int(await core.client.pttl(core.keys.arq.in_progress + claim.job_id))


@asynccontextmanager
async def running(leases: Leases) -> AsyncIterator[None]:
    task = asyncio.create_task(leases.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_each_claim_of_a_process_has_a_name_of_its_own(leases: Leases) -> None:
    first, second = leases.next_owner(), leases.next_owner()

    assert first != second
    assert first.partition(".")[0] == second.partition(".")[0]


async def test_a_claim_is_renewed_for_a_whole_lease(core: Core, leases: Leases, runs: RunningHere) -> None:
    claim, execution = await held(core, leases, runs)

    await leases.renew()

    assert await left_ms(core, claim) > 5_000
    assert execution.stopped is None


async def test_a_claim_that_another_worker_has_stops_the_execution(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    claim, execution = await held(core, leases, runs)
    await core.client.set(core.keys.arq.in_progress + claim.job_id, "other.1", px=60_000)

    await leases.renew()

    assert execution.stopped is StopReason.LOST


async def test_a_lost_claim_of_a_job_that_does_not_run_yet_stops_nothing(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    claim = await claimed(core, leases)
    leases.hold(claim)
    await core.client.set(core.keys.arq.in_progress + claim.job_id, "other.1", px=60_000)

    await leases.renew()

    assert leases.claim_of(claim.job_id) is claim


async def test_a_job_that_the_queue_has_lost_continues(core: Core, leases: Leases, runs: RunningHere) -> None:
    claim, execution = await held(core, leases, runs)
    await core.queue.done(claim.job_id, LANE)

    await leases.renew()

    assert execution.stopped is None


async def test_an_execution_whose_record_has_another_epoch_is_stopped_and_its_claim_not_renewed(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    claim, execution = await held(core, leases, runs)
    await core.take_over(claim.job_id, "other.1")

    await leases.renew()

    assert execution.stopped is StopReason.FENCED
    assert await left_ms(core, claim) <= 1000


async def test_a_newer_claim_on_a_held_job_replaces_the_older_one(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    claim, execution = await held(core, leases, runs)
    newer = Claim(claim.job_id, LANE, leases.next_owner(), 1.0)
    await core.client.set(core.keys.arq.in_progress + claim.job_id, newer.owner, px=1000)

    assert leases.hold(newer) is None
    await leases.renew()

    assert leases.claim_of(claim.job_id) is newer
    assert execution.stopped is None
    assert await left_ms(core, claim) > 5_000


async def test_a_job_that_is_given_back_may_be_taken_by_any_worker(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    claim, _ = await held(core, leases, runs)

    await leases.give_back(claim.job_id, 0.0)
    await leases.renew()

    assert not await core.client.exists(core.keys.arq.in_progress + claim.job_id)
    with pytest.raises(KeyError):
        leases.claim_of(claim.job_id)


async def test_the_end_of_a_former_task_leaves_the_lease_of_a_job_that_returned(core: Core, leases: Leases) -> None:
    claim = await claimed(core, leases)
    former = leases.hold(claim)
    await leases.give_back(claim.job_id, 0.0)
    later = leases.hold(claim)
    assert former is not None
    assert later is not None

    leases.release(former)
    assert leases.claim_of(claim.job_id) is claim

    leases.release(later)
    with pytest.raises(KeyError):
        leases.claim_of(claim.job_id)


async def test_claims_are_renewed_though_the_jobs_server_is_away(core: Core, runs: RunningHere) -> None:
    async with open_client("redis://127.0.0.1:1", connections=1) as unreachable:
        leases = leases_of(core, runs, Executions(unreachable, core.keys, retention_s=RETENTION_S))
        claim, execution = await held(core, leases, runs)

        with pytest.raises(REDIS_FAULTS):
            await leases.renew()

    assert await left_ms(core, claim) > 5_000
    assert execution.stopped is None


async def test_a_running_process_publishes_that_it_is_alive_and_renews_soon_when_asked(
    core: Core, leases: Leases, runs: RunningHere
) -> None:
    alive = f"{core.keys.prefix}:*"
    before = {key async for key in core.client.scan_iter(alive)}
    async with running(leases), asyncio.timeout(TIMEOUT_S):
        while {key async for key in core.client.scan_iter(alive)} <= before:
            continue  # each turn is a round trip
        claim, _ = await held(core, leases, runs)
        leases.renew_soon()
        while await left_ms(core, claim) <= 1000:
            continue


async def test_an_outage_is_logged_once_and_so_is_its_end(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    runs = RunningHere()
    leases = leases_of(own_core, runs, lease_s=0.2)
    runs.add(Execution(new_job_id(1, 0), 1, "w.1", 0, 0, 1, 1000))
    with captured_logs() as logs:
        async with running(leases):
            await own_valkey.stop()
            await logs.wait_for("dispatcher.beat_lost")
            await own_valkey.start()
            await logs.wait_for("dispatcher.beat_back")
