"""Compare retries and the chain with a plain model: any sequence of failures, on a clock that only the test moves."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from shared.model.errors import AttemptFailed, ProviderGarbage, ProviderRefused, ProviderTimeout, ProviderTruncated
from shared.model.jobs import Progress
from worker.model.retry import BACKOFF_FIRST_S, BACKOFF_MOST_S, Budget, RetryContext, decide

PASSING = {
    "timeout": ProviderTimeout("Silent."),
    "truncated": ProviderTruncated("It ended."),
    "limited": ProviderRefused("Slow down.", code="rate_limit_exceeded", retry_after_s=4.0),
    "limited, no word how long": ProviderRefused("Slow down.", code="rate_limit_exceeded"),
}
ELSEWHERE = {
    "key": ProviderRefused("Who?", code="upstream_auth"),
    "quota": ProviderRefused("Pay.", code="insufficient_quota"),
}
FINAL = {"policy": ProviderRefused("No.", code="content_policy_violation")}
GARBAGE = {"garbage": ProviderGarbage("?")}
ERRORS: dict[str, AttemptFailed] = {**PASSING, **ELSEWHERE, **FINAL, **GARBAGE}


@dataclass
class Model:
    """Model a job at a chain: each target is fine or out, and there is one budget of each kind."""

    targets: int
    attempts_left: int
    tokens_left: int
    time_left_s: float
    at: int = 0
    out: set[int] = field(default_factory=set)
    rounds: int = 0
    garbage_of: set[int] = field(default_factory=set)
    paused: dict[int, float] = field(default_factory=dict)

    def fails(self, name: str, able: set[int], shown: int, chance: float) -> float | None:
        """Fail an attempt at the current target; return the pause before the next one, or None if it was the last."""
        garbage_again = name in GARBAGE and self.at in self.garbage_of
        self.garbage_of |= {self.at} if name in GARBAGE else set()
        self.attempts_left -= 1
        if name in FINAL or not self.attempts_left:
            return None
        if name in ELSEWHERE or garbage_again:
            self.out.add(self.at)
        following = [*range(self.at + 1, self.targets), *range(self.at + 1)]
        candidates = [target for target in following if target not in self.out]
        if not candidates:
            return None
        self.paused = {target: left_s for target, left_s in self.paused.items() if left_s < self.time_left_s}
        if name == "limited":
            self.paused[self.at] = self.time_left_s - 4.0
        candidates = [target for target in candidates if target in able] or candidates
        chosen = ([target for target in candidates if target not in self.paused] or candidates)[0]
        if chosen not in able:
            self.tokens_left -= shown
        if self.tokens_left < 0:
            return None
        pause_s = 0.0
        if chosen <= self.at:
            pause_s = chance * min(BACKOFF_FIRST_S * 2**self.rounds, BACKOFF_MOST_S)
            self.rounds += 1
        if chosen in self.paused:
            pause_s += self.time_left_s - self.paused[chosen]
        if pause_s >= self.time_left_s:
            return None
        self.at = chosen
        return pause_s


@given(data=st.data(), targets=st.integers(1, 4), attempts=st.integers(1, 9), tokens=st.integers(0, 200))
def test_any_sequence_of_failures_goes_as_a_plain_model_says(
    data: st.DataObject, targets: int, attempts: int, tokens: int
) -> None:
    budget = Budget(attempts, tokens)
    model = Model(targets, max(attempts, targets), tokens, time_left_s=data.draw(st.floats(0.1, 100), label="time"))
    progress, made, shown = Progress(), 0, 0
    while True:
        made += 1
        shown += data.draw(st.integers(0, 50), label="shown")
        able = data.draw(st.sets(st.integers(0, targets - 1)), label="able") if shown else set(range(targets))
        name = data.draw(st.sampled_from(sorted(ERRORS)), label="error")
        chance = data.draw(st.floats(0, 1, exclude_max=True), label="chance")
        model.time_left_s -= 0.1
        failure = RetryContext(ERRORS[name], targets, able, shown, model.time_left_s)

        again = decide(failure, progress, budget, chance)

        assert (None if again is None else again.after_s) == model.fails(name, able, shown, chance)
        if again is None:
            break
        assert (again.progress.target, {*again.progress.excluded}) == (model.at, model.out)
        assert again.progress.target not in again.progress.excluded
        progress = again.progress
        if progress.target not in able:
            progress, shown = replace(progress, discarded_tokens=progress.discarded_tokens + shown), 0
        model.time_left_s -= again.after_s

    assert made <= max(attempts, targets)
    assert progress.discarded_tokens <= tokens
