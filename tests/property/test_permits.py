"""Test places at a provider against a plain model: any holders and waiters, on the real server, as time passes."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from shared.store.permits import WAITER_TIMEOUT_S, ConcurrencyPermits, PermitHolder
from tests.support.core import Core
from tests.support.server_steps import ServerSteps, run_steps

LIMIT = 2
JOBS = st.sampled_from(["a", "b", "c", "d", "e"])
WORKERS = st.sampled_from(["w1", "w2"])
LEASE_S = 1_000.0


class Waiting(ServerSteps):
    """Run two workers at a provider that takes two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: list[str] = []
        self.silent: list[str] = []
        """Holders whose lease is over, as long as nobody has asked for their places."""
        self.queue: list[str] = []

    @initialize()
    def open(self) -> None:
        self.core: Core = self.open_core()
        self.places = ConcurrencyPermits(self.core.client, self.core.keys)
        self.keys = self.core.keys.permits("p")

    @rule(worker=WORKERS, job=JOBS, waits=st.booleans())
    def acquire(self, worker: str, job: str, waits: bool) -> None:
        holder = PermitHolder("p", worker, job)
        self.silent = []
        before = self.queue.index(job) if job in self.queue else len(self.queue)
        has = holder.name in self.holders or before < LIMIT - len(self.holders)
        assert self.run(self.places.acquire(holder, LIMIT, LEASE_S, queue=waits)) == has
        if has:
            self.holders = [*{*self.holders, holder.name}]
            self.queue = [each for each in self.queue if each != job]
        elif waits and job not in self.queue:
            self.queue.append(job)

    @rule(worker=WORKERS, job=JOBS)
    def release(self, worker: str, job: str) -> None:
        holder = PermitHolder("p", worker, job)
        self.run(self.places.release(holder))
        self.holders = [each for each in self.holders if each != holder.name]
        self.silent = [each for each in self.silent if each != holder.name]

    @rule(worker=WORKERS, job=JOBS)
    def renew(self, worker: str, job: str) -> None:
        holder = PermitHolder("p", worker, job)
        self.run(self.places.renew([holder], LEASE_S))
        if holder.name in self.silent:
            self.silent.remove(holder.name)
            self.holders.append(holder.name)

    @rule(worker=WORKERS, job=JOBS)
    def a_holder_dies_and_its_lease_ends(self, worker: str, job: str) -> None:
        name = PermitHolder("p", worker, job).name
        self.run(self.core.client.zadd(self.keys.holders, {name: 1}, xx=True))
        if name in self.holders:
            self.holders.remove(name)
            self.silent.append(name)

    @rule(job=JOBS)
    def a_waiter_stays_away_until_its_turn_is_lost(self, job: str) -> None:
        self.run(self.core.client.zadd(self.keys.interest, {job: 1}, xx=True))
        self.queue = [each for each in self.queue if each != job]

    @invariant()
    def there_are_never_more_calls_than_allowed(self) -> None:
        assert len(self.holders) <= LIMIT
        if hasattr(self, "core"):
            living = self.run(self.core.client.zcount(self.keys.holders, 2, "+inf"))
            assert living == len(self.holders)


def test_places_are_given_as_a_plain_model_says(redis_url: str) -> None:
    run_steps(Waiting, redis_url, examples=40)


def test_a_turn_is_kept_for_longer_than_a_job_stays_away() -> None:
    assert WAITER_TIMEOUT_S > 2
