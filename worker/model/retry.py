"""The decision after a failed attempt: the job's end, or another attempt, with its target of the chain and its delay.

Decisions are values, which worker/execution/attempt_sequence.py carries out. `CLASSIFICATIONS` is the one table of the
meanings of errors. Pure: no I/O, no clock, and chance is passed in as a number. Not here: the next attempt's request
(continuation.py), and the state of a provider's circuit (breaker.py).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from shared.model.errors import AttemptFailed, PermanentFailure, ProviderRefused, RetryLater
from shared.model.jobs import Progress

BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.5, 30.0
NEAR_DELTAS = 16
"""Workers that were lost within so many deltas of each other died at the same place."""


class FailureClass(StrEnum):
    """The kind of failure that an error is."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate-limited"
    TRUNCATED = "truncated"
    DETERMINISTIC = "deterministic"


@dataclass(frozen=True, slots=True)
class Classification:
    """An error's sort; and for a deterministic one, whether another provider or model may do better (`elsewhere`)."""

    failure_class: FailureClass
    elsewhere: bool = False


CLASSIFICATIONS: dict[str, Classification] = {
    "provider_timeout": Classification(FailureClass.TRANSIENT),
    "provider_unreachable": Classification(FailureClass.TRANSIENT),
    "provider_overloaded": Classification(FailureClass.TRANSIENT),
    "server_error": Classification(FailureClass.TRANSIENT),
    "circuit_open": Classification(FailureClass.TRANSIENT),
    "rate_limit_exceeded": Classification(FailureClass.RATE_LIMITED),
    "provider_truncated": Classification(FailureClass.TRUNCATED),
    "provider_garbage": Classification(FailureClass.TRANSIENT),
    "function_failed": Classification(FailureClass.TRANSIENT),
    "function_timeout": Classification(FailureClass.TRANSIENT),
    "retry_later": Classification(FailureClass.TRANSIENT),
    "provider_error": Classification(FailureClass.DETERMINISTIC, elsewhere=True),
    "upstream_auth": Classification(FailureClass.DETERMINISTIC, elsewhere=True),
    "insufficient_quota": Classification(FailureClass.DETERMINISTIC, elsewhere=True),
    "model_not_found": Classification(FailureClass.DETERMINISTIC, elsewhere=True),
    "context_length_exceeded": Classification(FailureClass.DETERMINISTIC, elsewhere=True),
    "content_policy_violation": Classification(FailureClass.DETERMINISTIC),
    "invalid_request": Classification(FailureClass.DETERMINISTIC),
}
"""Error code -> classification, of the errors of providers and of functions. Each other error is final."""

_FINAL = Classification(FailureClass.DETERMINISTIC)
_GARBAGE = "provider_garbage"


def classify(error: AttemptFailed, *, garbage: bool = False) -> Classification:
    """Return the classification on an error of a target; `garbage`: the target has sent garbage before.

    Once, an unreadable answer is an accident of the wire; twice, it is that provider's usual answer.
    """
    if isinstance(error, PermanentFailure):
        return _FINAL  # whatever code its function chose
    if error.code == _GARBAGE and garbage:
        return Classification(FailureClass.DETERMINISTIC, elsewhere=True)
    return CLASSIFICATIONS.get(error.code, _FINAL)


@dataclass(frozen=True, slots=True)
class Budget:
    """The costs that a job may cause: attempts that fail by themselves, and deltas that are generated again for it."""

    max_attempts: int
    max_regenerated_tokens: int


@dataclass(frozen=True, slots=True)
class RetryContext:
    """A failed attempt, and the state of its job.

    The chain has `targets`; those that are `able` can continue a broken answer. The answer has `shown` deltas, and the
    job has `left_s` seconds. The failure is `of_the_rest` if the provider refused to continue the begun answer: the
    request itself may be fine.
    """

    error: AttemptFailed
    targets: int
    able: Collection[int]
    shown: int
    left_s: float
    of_the_rest: bool = False


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Another attempt, in `after_s` seconds, with this progress."""

    after_s: float
    progress: Progress


def decide(failure: RetryContext, progress: Progress, budget: Budget, chance: float) -> RetryDecision | None:
    """Decide about another attempt; None is the job's end.

    The targets of the chain are tried in their order, at once; a whole round is followed by a pause: exponential with
    full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS 2015), `chance` being a random number below 1. A
    target that asked for a pause gets it, if no other can answer.
    """
    kind = classify(failure.error, garbage=progress.target in progress.garbage)
    final = kind.failure_class is FailureClass.DETERMINISTIC and not failure.of_the_rest
    excluded = (*progress.excluded, progress.target) if final else progress.excluded
    pauses = _pauses(failure, progress)
    target = _next_target(failure, progress.target, excluded, pauses)
    failures = progress.failures + 1
    if target is None or (final and not kind.elsewhere) or failures >= max(budget.max_attempts, failure.targets):
        return None
    if target not in failure.able and progress.discarded_tokens + failure.shown > budget.max_regenerated_tokens:
        return None
    goes_round = target <= progress.target
    after_s = _backoff_s(progress, chance) if goes_round else 0.0
    after_s += max(0.0, failure.left_s - pauses.get(target, failure.left_s))
    if after_s >= failure.left_s:
        return None
    return RetryDecision(
        after_s,
        replace(
            progress,
            failures=failures,
            target=target,
            excluded=excluded,
            rounds=progress.rounds + goes_round,
            pauses=tuple(pauses.items()),
            garbage=(*progress.garbage, progress.target) if failure.error.code == _GARBAGE else progress.garbage,
        ),
    )


def order_of(targets: int, progress: Progress, able: Collection[int]) -> list[int]:
    """Return the order of the targets that may be called: from the next one on, with those first that can continue."""
    circle = [(progress.target + step) % targets for step in range(targets)]
    return sorted((each for each in circle if each not in progress.excluded), key=lambda each: each not in able)


def _next_target(
    failure: RetryContext, target: int, excluded: Collection[int], pauses: Mapping[int, float]
) -> int | None:
    after_it = Progress(target=(target + 1) % failure.targets, excluded=tuple(excluded))
    order = order_of(failure.targets, after_it, failure.able)
    return min(order, key=lambda each: (each not in failure.able, each in pauses), default=None)


def _pauses(failure: RetryContext, progress: Progress) -> dict[int, float]:
    """Collect the pauses that are not over, and the one that the failed target may have requested."""
    pauses = {target: left_s for target, left_s in progress.pauses if left_s < failure.left_s}
    if isinstance(failure.error, ProviderRefused | RetryLater) and failure.error.retry_after_s:
        pauses[progress.target] = failure.left_s - failure.error.retry_after_s
    return pauses


def _backoff_s(progress: Progress, chance: float) -> float:
    # The exponent is bounded, since a float is; the pause has reached its bound long before.
    return chance * min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(progress.rounds, 10))


def after_loss(progress: Progress, deltas: int) -> Progress:
    """Return the progress after a worker was lost at `deltas` deltas of the answer."""
    same_place = progress.crashes > 0 and abs(deltas - progress.died_at) <= NEAR_DELTAS
    return replace(progress, crashes=progress.crashes + 1 if same_place else 1, died_at=deltas)
