"""Decide what follows an attempt to deliver a webhook: it is delivered, tried again, or given up.

Pure: randomness comes in as a number. Not here: the attempt itself (worker/webhooks).
"""

from dataclasses import dataclass
from typing import Final

RETRIES_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""The pauses after the first attempt, the second and so on, as Standard Webhooks 1.0 proposes them."""
ATTEMPTS: Final = len(RETRIES_S) + 1
"""After so many attempts the delivery is dead."""
_JITTER: Final = 0.2
_LONGEST_PAUSE_S: Final = 86_400.0

_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Attempted:
    """The result of one attempt: the receiver's status, or None if there was no answer.

    `retry_after_s` is the pause that the receiver asked for.
    """

    status: int | None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has accepted the event."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """The next attempt is due after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Dead:
    """No attempt follows: the receiver is `gone` (410), or has failed too often."""

    gone: bool


Outcome = Delivered | RetryIn | Dead
"""What follows an attempt."""


def outcome_of(attempted: Attempted, attempt: int, randomness: float) -> Outcome:
    """Return the outcome of the attempt of this number, counted from 1; `randomness` is from 0 up to 1."""
    status = attempted.status
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == _GONE:
        return Dead(gone=True)
    if attempt >= ATTEMPTS:
        return Dead(gone=False)
    pause_s = retry_pause_s(attempt, randomness)
    return RetryIn(max(pause_s, min(attempted.retry_after_s or 0.0, _LONGEST_PAUSE_S)))


def retry_pause_s(attempt: int, randomness: float) -> float:
    """Return the pause after this attempt, with up to a fifth more, so that the retries of many deliveries spread."""
    return RETRIES_S[attempt - 1] * (1 + _JITTER * randomness)
