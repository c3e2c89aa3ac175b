"""Decide how long to retry a gateway that does not answer, and when to try next. Pure: time and chance are arguments.

A gateway that has never answered most likely has a wrong address. One that answered a moment ago will return. Not here:
the waiting itself (gateway/client/connection.py).
"""

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 5.0


class RetryWindow:
    """Bound the retries of one gateway. `before_s` counts until its first answer, `after_s` from its last answer on.

    Both are in seconds; with 0 nothing is tried twice.
    """

    def __init__(self, before_s: float, after_s: float) -> None:
        self._limit_s = before_s
        self._after_s = after_s
        self._silent_since: float | None = None
        self._failures = 0

    def reached(self) -> None:
        """Note that the gateway responded, even if only with a refusal."""
        self._limit_s = self._after_s

    def answered(self) -> None:
        """Note a useful answer."""
        self.reached()
        self._silent_since = None
        self._failures = 0

    def wait_s(self, now: float, chance: float, asked_s: float | None = None) -> float | None:
        """Return after how many seconds to try again after a failure; None if the window is over.

        `asked_s` is the delay that the gateway requested. Without one the delay doubles. Its later half is scaled by
        `chance` (0 to 1), so that a crowd of clients doesn't return at one moment.
        """
        if self._silent_since is None:
            self._silent_since = now
        left_s = self._silent_since + self._limit_s - now
        if left_s <= 0:
            return None
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._failures) * (1 + chance) / 2
        # Beyond this exponent the delay is at its bound anyway.
        self._failures = min(self._failures + 1, 16)
        return min(left_s, delay_s if asked_s is None else asked_s)

    def silent_s(self, now: float) -> float:
        """Return for how many seconds nothing has arrived."""
        return 0.0 if self._silent_since is None else now - self._silent_since
