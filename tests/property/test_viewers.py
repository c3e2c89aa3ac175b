"""Compare the viewers' step with plain dictionaries: gateways arrive, report, leave and die, and time passes.

A job is abandoned if and only if it had no viewers for as long as it asked for. The server's clock can't be set, so
that a step moves all written times into the past.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from shared.model.jobs import VIEWER_LEASE_S, Abandonment, OnDisconnect
from shared.store.viewers import View
from tests.support.core import Core
from tests.support.server_steps import ServerSteps, run_steps

GATEWAYS = st.sampled_from(["g.1", "g.2", "g.3"])
FIRST_VIEWER_TIMEOUT_S, DISCONNECT_GRACE_S = 40.0, 10.0
# Longer than all steps of one run: times nearer than this to a limit are not checked.
SLACK_S = 4.0


@dataclass
class Model:
    """Hold the state that the server should have. Times are seconds on a clock of its own."""

    abandonable: bool
    now: float = 0.0
    readers: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Of each gateway: how many, and until when that is believed."""
    given_up_at: float = FIRST_VIEWER_TIMEOUT_S
    over: bool = False

    @property
    def viewers(self) -> int:
        return sum(count for count, until in self.readers.values() if until > self.now)

    def report(self, gateway: str, count: int, reconnect_grace_s: float) -> None:
        self.readers = {name: seen for name, seen in self.readers.items() if seen[1] > self.now}
        if count:
            self.readers[gateway] = count, self.now + VIEWER_LEASE_S
            self.given_up_at = self.now + VIEWER_LEASE_S + DISCONNECT_GRACE_S
        elif self.readers.pop(gateway, None):
            last = max((until for _, until in self.readers.values()), default=0.0)
            self.given_up_at = max(last, self.now + reconnect_grace_s) + DISCONNECT_GRACE_S


class Viewing(ServerSteps):
    """Run three gateways and one job."""

    @initialize(abandonable=st.booleans(), caller=st.booleans())
    def open(self, abandonable: bool, caller: bool) -> None:
        self.core: Core = self.open_core()
        terms = (
            Abandonment(OnDisconnect.CANCEL, FIRST_VIEWER_TIMEOUT_S, DISCONNECT_GRACE_S)
            if abandonable
            else Abandonment()
        )
        self.job = self.run(self.core.queued(abandonment=terms, viewer="g.1" if caller else None))
        self.model = Model(abandonable)
        if caller:
            self.model.report("g.1", 1, 0.0)

    @rule(gateway=GATEWAYS, count=st.integers(0, 3), let_go=st.booleans())
    def report(self, gateway: str, count: int, let_go: bool) -> None:
        reconnect_grace_s = VIEWER_LEASE_S if let_go else 0.0
        (left_s,) = self.run(self.core.viewers.report(gateway, [View(self.job, count, reconnect_grace_s)]))
        if self.model.over or not self.model.abandonable:
            assert left_s is None
        if not self.model.over:
            self.model.report(gateway, count, reconnect_grace_s)
            if self.model.abandonable:
                assert left_s is not None
                expected = max(self.model.given_up_at - self.model.now, 0.0)
                assert max(expected - SLACK_S, 0.0) <= left_s <= expected + 0.001

    @rule(by_s=st.sampled_from([5.0, 15.0, 35.0]))
    def time_passes(self, by_s: float) -> None:
        keys = self.core.keys.job(self.job)
        for gateway in self.run(self.core.client.zrange(keys.viewers, 0, -1)):
            self.run(self.core.client.zincrby(keys.viewers, -by_s * 1000, gateway))
        if self.model.abandonable:
            self.run(self.core.client.hincrby(keys.record, "abandon_at", -int(by_s * 1000)))  # type: ignore[arg-type]
        self.model.now += by_s

    @rule()
    def the_reaper_checks(self) -> None:
        overdue_s = self.model.now - self.model.given_up_at
        if -SLACK_S < overdue_s < 0:
            return  # the real clock may have come so far
        answer = self.run(self.core.store.abandon(self.job, 0))
        if not self.model.abandonable:
            assert answer == "watched"
        elif self.model.over:
            assert answer == "ended"
        else:
            assert answer == ("cancelled" if overdue_s >= 0 else "watched")
            self.model.over = answer == "cancelled"
            if self.model.over:
                assert self.model.viewers == 0

    @invariant()
    def all_viewers_are_counted(self) -> None:
        if hasattr(self, "core") and not self.model.over:
            nearly = [until for _, until in self.model.readers.values() if 0 < until - self.model.now < SLACK_S]
            if not nearly:
                assert self.run(self.core.viewers.count([self.job])) == [self.model.viewers]


def test_a_job_is_given_up_exactly_if_it_had_no_viewer_for_the_grace_period(redis_url: str) -> None:
    run_steps(Viewing, redis_url, examples=60, steps=25)
