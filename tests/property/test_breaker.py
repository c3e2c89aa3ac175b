"""The circuit breaker against a plain model: any calls, at any times, on a clock that only the test moves."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.breaker import CLOSED, Circuit, Policy, State, is_idle, probed, reported, retry_at_ms, state_of

POLICY = Policy(
    window_ms=1_000,
    buckets=4,
    min_calls=4,
    failure_ratio=0.5,
    open_ms=500,
    open_most_ms=1_500,
    probes=2,
    probe_ms=300,
)
BUCKET_MS = 250


@dataclass
class Model:
    """A list of calls and a date: what anybody would write down."""

    calls: list[tuple[int, bool]] = field(default_factory=list)
    closed_until_trial: int | None = None
    """When an open circuit lets the first trial call through; None for a closed one."""
    pause_ms: int = 500
    trials: list[int] = field(default_factory=list)

    def state(self, now: int) -> State:
        if self.closed_until_trial is None:
            return State.CLOSED
        return State.OPEN if now < self.closed_until_trial else State.HALF_OPEN

    def report(self, now: int, successes: int, failures: int) -> None:
        state = self.state(now)
        if state is State.OPEN or successes + failures == 0:
            return
        if state is State.HALF_OPEN:
            self.trials, self.calls = [], []
            if failures:
                self.pause_ms = min(2 * self.pause_ms, 1_500)
                self.closed_until_trial = now + self.pause_ms
            else:
                self.pause_ms, self.closed_until_trial = 500, None
            return
        self.calls += [(now, True)] * successes + [(now, False)] * failures
        # The window moves on by whole buckets.
        recent = [well for at, well in self.calls if at // BUCKET_MS > now // BUCKET_MS - 4]
        if len(recent) >= 4 and recent.count(False) >= len(recent) / 2:
            self.calls, self.pause_ms, self.closed_until_trial = [], 500, now + 500

    def trial(self, now: int) -> bool:
        self.trials = [until for until in self.trials if until > now]
        if len(self.trials) >= 2:
            return False
        self.trials.append(now + 300)
        return True


class Breaking(RuleBasedStateMachine):
    """Calls that end, trials that begin, and time that goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.circuit, self.model = CLOSED, Model()

    @rule(ms=st.one_of(st.integers(0, 400), st.integers(0, 5_000)))
    def time_goes_by(self, ms: int) -> None:
        self.now += ms

    @rule(successes=st.integers(0, 3), failures=st.integers(0, 3))
    def calls_end(self, successes: int, failures: int) -> None:
        self.circuit = reported(self.circuit, successes, failures, self.now, POLICY)
        self.model.report(self.now, successes, failures)

    @rule()
    def a_trial_is_asked_for(self) -> None:
        if self.model.state(self.now) is not State.HALF_OPEN:
            return
        claimed = probed(self.circuit, self.now, POLICY)
        assert (claimed is not None) == self.model.trial(self.now)
        self.circuit = claimed or self.circuit

    @invariant()
    def both_say_the_same(self) -> None:
        assert state_of(self.circuit, self.now, POLICY) is self.model.state(self.now)
        if self.model.closed_until_trial is not None:
            assert retry_at_ms(self.circuit, POLICY) == self.model.closed_until_trial

    @invariant()
    def it_can_be_told_to_another_process(self) -> None:
        assert Circuit.load(self.circuit.dump()) == self.circuit

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.circuit.counts) <= POLICY.buckets
        assert len(self.circuit.probes) <= POLICY.probes

    @invariant()
    def it_is_kept_as_long_as_it_says_something(self) -> None:
        silent = all(at // BUCKET_MS <= self.now // BUCKET_MS - 4 for at, _ in self.model.calls)
        if self.model.closed_until_trial is not None:
            silent = self.now >= self.model.closed_until_trial + 1_000
        assert is_idle(self.circuit, self.now, POLICY) == silent


TestBreaking = Breaking.TestCase


def test_the_pause_of_a_circuit_that_never_recovers_has_a_bound() -> None:
    assert retry_at_ms(Circuit(opened_ms=0, reopened=10**9), POLICY) == POLICY.open_most_ms
