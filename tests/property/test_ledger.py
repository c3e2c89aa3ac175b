"""Test the tenants' ledgers against plain sets: any steps at any jobs, in any order, on the real server.

The reservations are always the admitted jobs that have not ended: each once, waiting or running. The reaper also knows
the jobs that have ended and wait for their completion. No tenant has
more waiting jobs after an admission than it may; `take` starts no job past its bound, and passes over no other. The
tenants that have ready jobs in a lane are those that have a turn there.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    rule,
)

from shared.model.errors import TooManyWaiting
from shared.model.jobs import Place
from shared.model.tenant_bounds import TenantBounds
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.queue import Claim
from shared.store.wire.answers import Taken
from tests.support.core import RETENTION_S, Core, make_spec
from tests.support.server_steps import ServerSteps, run_steps

LANES, TENANTS, OWNER = ("high", "low"), ("alice", "bob"), "w.1"
LEASE_S = 3_600.0
BOUNDS = TenantBounds(waiting=3, running=1)


@dataclass
class Alive:
    """Hold an admitted job that has not ended."""

    tenant: str
    lane: str
    released: bool = False
    running: bool = False
    claimed: bool = False


class LedgerSteps(ServerSteps):
    """Run two tenants' jobs in two lanes, and every step that ends them."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[str, Alive] = {}
        self.not_completed: set[str] = set()
        self.all: list[str] = []

    @initialize(target=jobs, lanes=st.lists(st.sampled_from(LANES), min_size=3, max_size=3))
    def open(self, lanes: list[str]) -> Any:
        """Open the core with one running job of Alice's, and two that were passed over."""
        self.core: Core = self.open_core()
        opened = [self.admit(TENANTS[0], lane, released=True) for lane in lanes]
        self.take(list(LANES), workers=2)
        return multiple(*opened)

    def of(self, tenant: str, *, running: bool) -> set[str]:
        """Return a tenant's jobs that run, or that wait."""
        return {job for job, each in self.alive.items() if (each.tenant, each.running) == (tenant, running)}

    @rule(target=jobs, tenant=st.sampled_from(TENANTS), lane=st.sampled_from(LANES), released=st.booleans())
    def admit(self, tenant: str, lane: str, released: bool) -> Any:
        """Admit a job, with a crash after `admit` or without."""
        spec = make_spec(tenant=tenant, lane=lane)
        try:
            for _ in range(2):  # the same call, sent again after a lost acknowledgement
                self.run(self.core.queue_admission.admit(spec, max_depth=100, retention_s=RETENTION_S, bounds=BOUNDS))
        except TooManyWaiting:
            assert len(self.of(tenant, running=False)) >= (BOUNDS.waiting or 0)
            return multiple()
        assert len(self.of(tenant, running=False)) < (BOUNDS.waiting or 0)
        self.alive[spec.id] = Alive(tenant, lane)
        self.all.append(spec.id)
        if released:
            self.release(spec.id)
        return spec.id

    @rule(job=jobs)
    def release(self, job: str) -> None:
        """Release a job; a second release changes nothing."""
        each = self.alive.get(job)
        released = self.run(self.core.queue_admission.release(job, each.lane if each else LANES[0]))
        assert released == (each is not None and not each.claimed)
        if each is not None and released:
            each.released = True

    @rule(lanes=st.permutations(LANES), workers=st.integers(1, 3))
    def take(self, lanes: list[str], workers: int) -> None:
        for _ in range(workers):
            found = self.run(self.core.queue.take(lanes, OWNER, LEASE_S))
            ready = {
                job
                for job, each in self.alive.items()
                if each.released
                and not each.claimed
                and (each.running or len(self.of(each.tenant, running=True)) < (BOUNDS.running or 0))
            }
            if not isinstance(found, Taken):
                assert not ready
                return
            assert found.job_id in ready
            each = self.alive[found.job_id]
            assert each.lane == next(lane for lane in lanes if any(self.alive[job].lane == lane for job in ready))
            each.running = each.claimed = True

    @rule(job=jobs)
    def renew(self, job: str) -> None:
        """Renew a claim, also after it has expired."""
        each = self.alive.get(job)
        if each is None or each.running:
            (answer,) = self.run(self.core.queue.renew([Claim(job, each.lane if each else "low", OWNER, 0.0)], LEASE_S))
            assert answer == ("gone" if each is None else "ok")
            if each is not None:
                each.claimed = True

    @rule(job=jobs, in_s=st.sampled_from([0.0, 60.0]))
    def give_back(self, job: str, in_s: float) -> None:
        each = self.alive.get(job)
        given = self.run(self.core.queue.give_back(Claim(job, each.lane if each else "low", OWNER, 0.0), in_s))
        assert given == (each is not None and each.claimed)
        if each is not None and given:
            each.running = each.claimed = False
            each.released = in_s == 0.0

    @rule(job=jobs, times=st.integers(1, 2))
    def done(self, job: str, times: int) -> None:
        each = self.alive.pop(job, None)
        for _ in range(times):
            self.run(self.core.queue.done(job, each.lane if each else LANES[0]))
        self.not_completed.discard(job)

    @rule(job=jobs, times=st.integers(1, 2))
    def leave_lane(self, job: str, times: int) -> None:
        """End a job without a worker: its completion steps have not run."""
        each = self.alive.pop(job, None)
        if each is not None:
            self.not_completed.add(job)
        for _ in range(times):
            self.run(self.core.queue.leave_lane(job, each.lane if each else LANES[0]))

    @rule(job=jobs)
    def the_worker_is_lost(self, job: str) -> None:
        each = self.alive.get(job)
        if each is not None and each.claimed:
            self.run(self.core.client.delete(ARQ_IN_PROGRESS + job))
            self.run(self.core.client.zadd(self.core.keys.lane(each.lane), {job: 0}, xx=True))
            each.claimed, each.released = False, True

    @rule(job=jobs, knows_reservation=st.booleans())
    def the_queue_forgets_and_the_reaper_puts_back(self, job: str, knows_reservation: bool) -> None:
        """Remove the job alone, or its reservation with it, as a version without reservations would have left it."""
        each = self.alive.get(job)
        if each is None:
            return
        client, keys = self.core.client, self.core.keys
        self.run(client.zrem(keys.lane(each.lane), job))
        if not knows_reservation:
            self.run(client.hdel(keys.reservations, job))  # type: ignore[arg-type]
            for name in ("waiting", "running", f"held:{keys.lane(each.lane)}"):
                self.run(client.zrem(f"{keys.ledgers}{each.tenant}:{name}", job))
        place = Place(job, each.lane, each.running, each.tenant)
        assert self.run(self.core.queue.restore(place, LEASE_S, lease_s=0.0))
        each.released = True

    @rule(job=jobs)
    def it_is_looked_at_again(self, job: str) -> None:
        """Make a job due that was passed over: it needs no wake-up."""
        each = self.alive.get(job)
        if each is not None and each.released and not each.claimed:
            self.run(self.core.client.zadd(self.core.keys.lane(each.lane), {job: 0}, xx=True))

    @invariant()
    def the_reservations_are_the_jobs_alive(self) -> None:
        if not hasattr(self, "core"):
            return
        client, keys = self.core.client, self.core.keys
        kinds = ("waiting", "running", *(f"held:{keys.lane(lane)}" for lane in LANES))
        names = [f"{keys.ledgers}{tenant}:{kind}" for tenant in TENANTS for kind in kinds]
        pipe = client.pipeline(transaction=False)
        pipe.hkeys(keys.reservations)
        for name in (keys.active, *names):
            pipe.zrange(name, 0, -1)
        for lane in LANES:
            pipe.zrange(f"{keys.reservations}:turns:{keys.lane(lane)}", 0, -1)
            for tenant in TENANTS:
                pipe.zrange(f"{keys.ledgers}{tenant}:ready:{keys.lane(lane)}", 0, -1)
        reserved, active, *found_sets = ({each.decode() for each in found} for found in self.run(pipe.execute()))
        ledgers, turns = found_sets[: len(names)], found_sets[len(names) :]
        assert reserved == set(self.alive)
        assert active == reserved | self.not_completed
        for tenants, *ready in (turns[:3], turns[3:]):
            assert tenants == {tenant for tenant, jobs in zip(TENANTS, ready, strict=True) if jobs}
            assert set().union(*ready) <= set(self.alive)
        for i, tenant in enumerate(TENANTS):
            waiting, running, *held = ledgers[i * len(kinds) : (i + 1) * len(kinds)]
            assert set().union(*held) <= waiting
            assert (waiting, running) == (self.of(tenant, running=False), self.of(tenant, running=True))

    def teardown(self) -> None:
        if hasattr(self, "core"):
            # arq's names have no prefix of this test's own.
            for job in self.all:
                self.run(self.core.client.delete(ARQ_JOB + job, ARQ_IN_PROGRESS + job, ARQ_RETRY + job))
        super().teardown()


def test_the_reservations_equal_the_live_jobs_after_any_steps(redis_url: str) -> None:
    run_steps(LedgerSteps, redis_url, examples=100, phases=(Phase.generate,))
