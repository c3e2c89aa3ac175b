"""Compare the list of dead letters with a plain dictionary: any steps at any jobs, in any order, on the real server.

A failed job is listed once, in the order of its end, until it is dismissed or too old, or there are too many.
A requeued job is not open.
"""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    rule,
)

from shared.model.lifecycle import State
from shared.store.dead_letters import DeadLetters, Listed
from shared.store.wire.answers import Written
from tests.support.core import DEAD_LETTER_RETENTION_S, MOST_DEAD_LETTERS, RETENTION_S, Core, fresh_job_id
from tests.support.server_steps import ServerSteps, run_steps

ALL = 100
TENANTS, MOST_OF_TENANT = ("alice", "bob", "carol"), 3


@dataclass
class Failed:
    """Hold a job that has failed, as its record states."""

    ended_ms: int
    tenant: str = "alice"
    requeued_as: str | None = None
    dismissed: bool = False
    gone: bool = False


class DeadLetterSteps(ServerSteps):
    """Run completion steps, people and owners on several jobs."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, Failed] = {}
        self.listed: set[str] = set()
        self.open: set[str] = set()

    @initialize()
    def begin(self) -> None:
        self.core: Core = self.open_core()
        self.letters = DeadLetters(
            self.core.client,
            self.core.keys,
            retention_s=RETENTION_S,
            dead_letter_retention_s=DEAD_LETTER_RETENTION_S,
            most=MOST_DEAD_LETTERS,
            most_of_tenant=MOST_OF_TENANT,
        )
        seconds, _ = self.run(self.core.client.time())
        self.now_ms = seconds * 1000

    # Few times, so that many ended at once.
    @rule(target=jobs, age_s=st.integers(0, 3), tenant=st.sampled_from(TENANTS))
    def fail(self, age_s: int, tenant: str = "alice") -> str:
        execution = self.run(self.core.running(tenant=tenant))
        assert self.run(self.core.finish(execution, State.FAILED)) == Written()
        ended_ms = self.now_ms - 1000 * age_s
        record = self.core.keys.job(execution.job_id).record
        self.run(self.core.client.hset(record, "ended", str(ended_ms)))  # type: ignore[arg-type]
        self.failed[execution.job_id] = Failed(ended_ms, tenant)
        return execution.job_id

    @rule(job=jobs)
    def add(self, job: str) -> None:
        letter = self.failed[job]
        is_one = not (letter.dismissed or letter.gone)
        new = is_one and job not in self.listed

        assert (self.run(self.letters.add(job)) is not None) == new
        if new:
            self.listed.add(job)
            self.open.add(job)
        if is_one:
            for each in self.too_many(letter.tenant):
                self.failed[each].dismissed |= not self.failed[each].gone
                self.listed.discard(each)
                self.open.discard(each)

    def too_many(self, tenant: str) -> list[str]:
        """Return the tenant's excess letters; beyond the total bound, the oldest of the tenant that has most."""
        own = self.in_order(self.listed_of(tenant))[MOST_OF_TENANT:]
        over = len(self.listed) - len(own) - MOST_DEAD_LETTERS
        if over <= 0:
            return own
        largest = max(TENANTS, key=lambda each: (len(self.listed_of(each)), each))
        return own + [job for job in self.in_order(self.listed_of(largest)) if job not in own][-over:]

    def listed_of(self, tenant: str) -> set[str]:
        """Return a tenant's letters."""
        return {job for job in self.listed if self.failed[job].tenant == tenant}

    @rule(job=jobs)
    def requeue(self, job: str) -> None:
        letter, new = self.failed[job], fresh_job_id()
        self.run(self.letters.requeued(job, new))
        self.open.discard(job)
        if not letter.gone:
            letter.requeued_as = letter.requeued_as or new

    @rule(job=jobs)
    def dismiss(self, job: str) -> None:
        letter = self.failed[job]
        assert self.run(self.letters.dismiss(job)) != letter.gone
        letter.dismissed = not letter.gone
        self.listed.discard(job)
        self.open.discard(job)

    @rule(job=jobs)
    def forget(self, job: str) -> None:
        """Delete a job, as its owner does: the list is not updated yet."""
        self.run(self.core.store.forget(job))
        self.failed[job].gone = True

    @rule(job=jobs)
    def grow_too_old(self, job: str) -> None:
        """Make a letter too old: the list drops it with the next one."""
        letter = self.failed[job]
        self.run(self.core.store.forget(job))
        letter.gone, letter.ended_ms = True, self.now_ms - int(DEAD_LETTER_RETENTION_S * 1000) - 1
        for key, ids in ((self.core.keys.dead_letters, self.listed), (self.core.keys.open_dead_letters, self.open)):
            if job in ids:
                self.run(self.core.client.zadd(key, {job: letter.ended_ms}))
        other = self.fail(0)
        self.listed.discard(job)
        self.open.discard(job)
        self.add(other)

    @rule(size=st.integers(1, 3), only_open=st.booleans())
    def page_through(self, size: int, *, only_open: bool) -> None:
        found: list[Listed] = []
        while read := self.page(found[-1] if found else None, size, only_open=only_open):
            assert len(read) <= size
            found += read
        assert [each.job_id for each in found] == self.in_order(self.open if only_open else self.listed)

    def page(self, after: Listed | None, limit: int, *, only_open: bool) -> list[Listed]:
        """Read a page of the list."""
        return self.run(self.letters.listed(after, limit, only_open=only_open))

    def in_order(self, ids: set[str]) -> list[str]:
        """Sort the jobs by their end, the latest first."""
        return sorted(ids, key=lambda job: (self.failed[job].ended_ms, job), reverse=True)

    @invariant()
    def the_list_is_what_the_steps_have_made_of_it(self) -> None:
        if not hasattr(self, "core"):
            return
        for ids, only_open in ((self.listed, False), (self.open, True)):
            assert [each.job_id for each in self.page(None, ALL, only_open=only_open)] == self.in_order(ids)
        assert self.run(self.letters.open()) == len(self.open)
        assert len(self.listed) <= MOST_DEAD_LETTERS

    @invariant()
    def the_records_say_the_same(self) -> None:
        if not hasattr(self, "core"):
            return
        for job, found in zip(self.failed, self.run(self.core.store.load_many(list(self.failed))), strict=True):
            letter = self.failed[job]
            if letter.gone:
                assert found is None
            else:
                assert (found.dismissed, found.requeued_as) == (letter.dismissed, letter.requeued_as)  # type: ignore[union-attr]


def test_the_list_holds_exactly_the_open_dead_letters_after_any_steps(redis_url: str) -> None:
    run_steps(DeadLetterSteps, redis_url, examples=40)
