"""Compare the queue's functions with plain dictionaries: any steps, by any owners, in any order, on the real server.

An admitted job that has not ended is always in its lane, known to the reaper and readable for arq, and never has
two holders. Leases are so long that none expires by itself; a step expires them.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    rule,
)

from shared.model.errors import IdempotencyConflict, QueueFull
from shared.store.keys import ARQ_IN_PROGRESS, ARQ_JOB, ARQ_RETRY
from shared.store.queue import Claim
from shared.store.wire.answers import Taken
from tests.support.core import RETENTION_S, Core, make_spec
from tests.support.server_steps import ServerSteps, run_steps

LANES = ("high", "low")
LEASE_S = 3_600.0
MAX_DEPTH = 3
OWNERS = st.sampled_from(["w.1", "w.2", "w.3"])


@dataclass
class Place:
    """Hold a job that the queue knows. `ran`: arq has run it before."""

    lane: str
    due: bool = False
    holder: str | None = None
    ran: bool = False


class QueueSteps(ServerSteps):
    """Run several owners at several jobs in two lanes."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, Place] = {}
        self.used: dict[str, tuple[str, str]] = {}

    @initialize()
    def open(self) -> None:
        self.core: Core = self.open_core()

    # Admitted.

    @rule(
        target=jobs,
        lane=st.sampled_from(LANES),
        key=st.sampled_from([None, "k.1", "k.2"]),
        body=st.sampled_from(["f1", "f2"]),
    )
    def admit(self, lane: str, key: str | None, body: str) -> Any:
        spec = make_spec(lane=lane, idempotency_key=key, fingerprint=body)
        waiting = sum(place.due for place in self.places.values() if place.lane == lane)
        try:
            admission = self.run(self.core.queue_admission.admit(spec, max_depth=MAX_DEPTH, retention_s=RETENTION_S))
        except IdempotencyConflict:
            assert key is not None and self.used[key][1] != body
        except QueueFull:
            assert waiting >= MAX_DEPTH and (key is None or key not in self.used)
        else:
            if admission.existing:
                assert key is not None and self.used[key] == (admission.job_id, body)
                return multiple()
            assert (admission.job_id, admission.position) == (spec.id, waiting + 1)
            assert waiting < MAX_DEPTH and (key is None or key not in self.used)
            self.places[spec.id] = Place(lane)
            if key is not None:
                self.used[key] = (spec.id, body)
            return spec.id
        assert self.run(self.core.client.exists(ARQ_JOB + spec.id)) == 0
        return multiple()

    @rule(job=jobs)
    def release(self, job: str) -> None:
        place = self.places.get(job)
        released = self.run(self.core.queue_admission.release(job, place.lane if place else LANES[0]))
        assert released == (place is not None and place.holder is None)
        if place is not None and released:
            place.due = True

    # Claims.

    @rule(owner=OWNERS, lanes=st.permutations(LANES), asked=st.integers(0, len(LANES)), spare=st.booleans())
    def take(self, owner: str, lanes: list[str], asked: int, spare: bool) -> None:
        """Take from the first `asked` lanes: the others are at their caps."""
        lanes = lanes[:asked]
        expected = self.next_job(lanes, spare)
        found = self.run(self.core.queue.take(lanes, owner, LEASE_S, spare=spare))
        if expected is None:
            assert not isinstance(found, Taken)
            return
        assert isinstance(found, Taken)
        assert (found.lane, found.job_id) == (self.places[expected].lane, expected)
        place = self.places[expected]
        place.holder, place.due, place.ran = owner, False, True

    def next_job(self, lanes: list[str], spare: bool) -> str | None:
        """Return the job that `take` must find; those that it passes over are put off for a lease."""
        for lane in lanes:
            in_order: list[bytes] = self.run(self.core.client.zrange(self.core.keys.lane(lane), 0, -1))
            for name in in_order:
                job = name.decode()
                place = self.places[job]
                if not place.due:
                    continue
                if place.holder is None and not (spare and place.ran):
                    return job
                place.due = False
        return None

    @rule(job=jobs, owner=OWNERS)
    def renew(self, job: str, owner: str) -> None:
        place = self.places.get(job)
        lane = place.lane if place else LANES[0]
        (answer,) = self.run(self.core.queue.renew([Claim(job, lane, owner, 0.0)], LEASE_S))
        if place is None:
            assert answer == "gone"
        elif place.holder not in (None, owner):
            assert answer == "lost"
        else:
            assert answer == "ok"
            place.holder, place.due = owner, False

    @rule(job=jobs, owner=OWNERS)
    def give_back(self, job: str, owner: str) -> None:
        place = self.places.get(job)
        lane = place.lane if place else LANES[0]
        given = self.run(self.core.queue.give_back(Claim(job, lane, owner, 0.0)))
        assert given == (place is not None and place.holder == owner)
        if place is not None and given:
            place.holder, place.due, place.ran = None, True, False

    @rule(job=jobs)
    def done(self, job: str) -> None:
        place = self.places.pop(job, None)
        self.run(self.core.queue.done(job, place.lane if place else LANES[0]))
        arq_keys = [ARQ_JOB + job, ARQ_IN_PROGRESS + job, ARQ_RETRY + job]
        assert self.run(self.core.client.exists(*arq_keys)) == 0

    # Steps of time, and accidents.

    @rule(job=jobs, renewed=st.booleans())
    def the_time_has_come(self, job: str, renewed: bool) -> None:
        """Expire the lease, or only its place in the lane: the renewal has not reached it yet."""
        if (place := self.places.get(job)) is None:
            return
        self.run(self.core.client.zadd(self.core.keys.lane(place.lane), {job: 0}, xx=True))
        place.due = True
        if not renewed:
            self.run(self.core.client.delete(ARQ_IN_PROGRESS + job))
            place.holder = None

    @rule(job=jobs, message=st.booleans())
    def the_queue_forgets_and_the_reaper_checks(self, job: str, message: bool) -> None:
        if (place := self.places.get(job)) is None:
            return
        if message:
            self.run(self.core.client.delete(ARQ_JOB + job))
        else:
            self.run(self.core.client.zrem(self.core.keys.lane(place.lane), job))
        if not self.run(self.core.store.create(make_spec(id=job, lane=place.lane), 1)).new:
            assert self.run(self.core.job(job)).lane == place.lane
        assert self.run(self.core.queue.restore(self.run(self.core.job(job)).place, LEASE_S))
        assert not self.run(self.core.queue.restore(self.run(self.core.job(job)).place, LEASE_S))
        place.due = True

    # Invariants.

    @invariant()
    def nothing_is_lost_and_nothing_has_two_holders(self) -> None:
        if not hasattr(self, "core"):
            return
        keys, client = self.core.keys, self.core.client
        seconds, _ = self.run(client.time())
        for lane in LANES:
            scores = {
                name.decode(): due for name, due in self.run(client.zrange(keys.lane(lane), 0, -1, withscores=True))
            }
            assert {job: score < (seconds + 1) * 1000 for job, score in scores.items()} == {
                job: place.due for job, place in self.places.items() if place.lane == lane
            }
        assert {job.decode() for job in self.run(client.zrange(keys.active, 0, -1))} == set(self.places)
        for job, place in self.places.items():
            holder = self.run(client.get(ARQ_IN_PROGRESS + job))
            assert (holder.decode() if holder else None) == place.holder
            assert self.run(client.exists(ARQ_JOB + job)) == 1

    def teardown(self) -> None:
        if hasattr(self, "core"):
            # arq's names have no prefix of this test's own.
            for job in self.places:
                self.run(self.core.client.delete(ARQ_JOB + job, ARQ_IN_PROGRESS + job, ARQ_RETRY + job))
        super().teardown()


def test_no_job_is_lost_or_held_twice_after_any_steps(redis_url: str) -> None:
    run_steps(QueueSteps, redis_url, examples=40)
