"""Test the circuit breaker against a plain model: any calls, at any times, on a clock that only the test moves."""

from collections import Counter
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.model.breaker import (
    CLOSED,
    Circuit,
    CircuitState,
    FailedCall,
    Policy,
    given_back,
    is_idle,
    probed,
    reported,
    retry_at_ms,
    state_of,
)

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
CALLS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=4)


@dataclass
class Model:
    """Record a list of calls and a date: the plainest model of a circuit."""

    calls: list[tuple[int, str, str | None]] = field(default_factory=list)
    """When a call ended, of which group, and which request failed; None for a success."""
    closed_until_trial: int | None = None
    """When an open circuit lets the first trial call through; None for a closed one."""
    pause_ms: int = 500
    trials: list[int] = field(default_factory=list)
    failed_by: frozenset[str] = frozenset()

    def state(self, now: int) -> CircuitState:
        if self.closed_until_trial is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.closed_until_trial else CircuitState.HALF_OPEN

    def report(self, now: int, successes: str, failures: list[tuple[str, str]]) -> None:
        state = self.state(now)
        if state is CircuitState.OPEN or not (successes or failures):
            return
        if state is CircuitState.HALF_OPEN:
            self.trials, self.calls = [], []
            if failures:
                self.pause_ms = min(2 * self.pause_ms, 1_500)
                self.closed_until_trial = now + self.pause_ms
                self.failed_by = frozenset(group for group, _ in failures)
            else:
                self.pause_ms, self.closed_until_trial, self.failed_by = 500, None, frozenset()
            return
        self.calls += [(now, group, None) for group in successes]
        for group, request in failures:
            # Within the window, a request fails once.
            if (group, request) not in {each[1:] for each in self.recent(now)}:
                self.calls.append((now, group, request))
        if self.is_sick(now):
            self.calls, self.pause_ms, self.closed_until_trial = [], 500, now + 500

    def recent(self, now: int) -> list[tuple[int, str, str | None]]:
        # The window moves on by whole buckets.
        return [each for each in self.calls if each[0] // BUCKET_MS > now // BUCKET_MS - 4]

    def is_sick(self, now: int) -> bool:
        recent = [each[1:] for each in self.recent(now)]
        failed = Counter(group for group, request in recent if request)
        if len(recent) < 4 or failed.total() < len(recent) / 2 or len({each for each in recent if each[1]}) < 2:
            return False
        return all(
            failed.total() > count
            and failed.total() - count >= (len(recent) - sum(group == one for group, _ in recent)) / 2
            for one, count in failed.items()
        )

    def trial(self, now: int, group: str) -> bool:
        self.trials = [until for until in self.trials if until > now]
        assert self.closed_until_trial is not None
        if len(self.trials) >= 2 or (group in self.failed_by and now < self.closed_until_trial + self.pause_ms):
            return False
        self.trials.append(now + 300)
        return True


class Breaking(RuleBasedStateMachine):
    """Run calls that end, trials that begin, and time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.circuit, self.model = CLOSED, Model()

    @rule(ms=st.one_of(st.integers(0, 400), st.integers(0, 5_000)))
    def time_goes_by(self, ms: int) -> None:
        self.now += ms

    @rule(successes=st.text("ab", max_size=3), failures=CALLS)
    def calls_end(self, successes: str, failures: list[tuple[str, str]]) -> None:
        failed = [FailedCall(*each) for each in failures]
        self.circuit = reported(self.circuit, Counter(successes), failed, self.now, POLICY)
        self.model.report(self.now, successes, failures)

    @rule(group=st.sampled_from("ab"))
    def a_trial_is_asked_for(self, group: str) -> None:
        if self.model.state(self.now) is not CircuitState.HALF_OPEN:
            return
        claimed = probed(self.circuit, FailedCall(group, "any"), self.now, POLICY)
        assert (claimed is not None) == self.model.trial(self.now, group)
        self.circuit = claimed or self.circuit

    @rule()
    def a_trial_ends_without_a_verdict(self) -> None:
        self.circuit = given_back(self.circuit)
        self.model.trials = self.model.trials[1:]

    @invariant()
    def both_say_the_same(self) -> None:
        assert state_of(self.circuit, self.now, POLICY) is self.model.state(self.now)
        if self.model.closed_until_trial is not None:
            assert retry_at_ms(self.circuit, POLICY) == self.model.closed_until_trial

    @invariant()
    def another_process_can_read_it(self) -> None:
        assert Circuit.load(self.circuit.dump()) == self.circuit

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.circuit.counts) <= 2 * POLICY.buckets
        assert len(self.circuit.blamed) <= 6
        assert len(self.circuit.probes) <= POLICY.probes

    @invariant()
    def it_is_kept_as_long_as_it_says_something(self) -> None:
        silent = all(at // BUCKET_MS <= self.now // BUCKET_MS - 4 for at, *_ in self.model.calls)
        if self.model.closed_until_trial is not None:
            silent = self.now >= self.model.closed_until_trial + 1_000
        assert is_idle(self.circuit, self.now, POLICY) == silent


TestBreaking = Breaking.TestCase
