"""How long to go on trying a gateway that does not answer, and when to try next. Pure: time and chance come in.

Above: connection.py, which waits. A gateway that never answered is another case than one that was there a moment ago:
the first is most likely a wrong address, the second comes back.
"""

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 5.0


class Patience:
    """For one gateway. `before_s` counts until it has answered for the first time, `after_s` from its last answer on.

    Both in seconds; with 0 nothing is tried twice.
    """

    def __init__(self, before_s: float, after_s: float) -> None:
        self._limit_s = before_s
        self._after_s = after_s
        self._silent_since: float | None = None
        self._failures = 0

    def reached(self) -> None:
        """Somebody is there, even if all he says is that he can't help."""
        self._limit_s = self._after_s

    def answered(self) -> None:
        """All is well."""
        self.reached()
        self._silent_since = None
        self._failures = 0

    def wait_s(self, now: float, chance: float, asked_s: float | None = None) -> float | None:
        """After a failure: how long to wait for the next try, in seconds; None: patience is over.

        `asked_s` is what the gateway asked for; where it said nothing the delay doubles, the later half of it by
        `chance` (0 to 1), so that a crowd of clients doesn't come back as one.
        """
        if self._silent_since is None:
            self._silent_since = now
        left_s = self._silent_since + self._limit_s - now
        if left_s <= 0:
            return None
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._failures) * (1 + chance) / 2
        # The exponent is bounded where the delay is.
        self._failures = min(self._failures + 1, 16)
        return min(left_s, delay_s if asked_s is None else asked_s)

    def silent_s(self, now: float) -> float:
        """For how long nothing has come, in seconds."""
        return 0.0 if self._silent_since is None else now - self._silent_since
