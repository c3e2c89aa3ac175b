"""Provide time as an object that is passed in, so that its users can be tested without waiting.

Everything that reads time takes a `Clock`. Not for the pure modules, which take numbers.
"""

import time
from typing import Final, Protocol

_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Define a source of time."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never decreases."""
        ...


class SystemClock:
    """Read the machine's own clocks."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()

    def elapsed(self) -> float:
        """Return seconds from an arbitrary start, including the time asleep if the system counts it."""
        return time.clock_gettime(_ELAPSED)
