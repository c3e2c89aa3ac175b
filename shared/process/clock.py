"""Time as a thing one is handed, so that everything above can be tested without waiting.

Below it only the operating system; everything that reads time takes a `Clock`. Not used by the pure modules, which
take numbers.
"""

import time
from typing import Final, Protocol

_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where time comes from."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    def elapsed(self) -> float:
        """Seconds from an arbitrary start; the time that the machine sleeps counts, where the system tells it."""
        return time.clock_gettime(_ELAPSED)
