"""Spread the heartbeat checks of many readers: all within one period, as few as possible at a time.

Pure. Not here: the timer, and the decision whether a reader needs a heartbeat (gateway/streams/hub.py).
"""

import math


class HeartbeatSchedule:
    """Schedule the checks of readers, numbered in the order of their arrival: each has one in every `period_s`."""

    def __init__(self, period_s: float, tick_s: float, now: float) -> None:
        """Check readers every `tick_s` at most."""
        self._groups = max(1, round(period_s / tick_s))
        self._group_s = period_s / self._groups
        self._began = now
        self._turn = 0

    @property
    def tick_s(self) -> float:
        """Return the time from one group's turn to the next one's."""
        return self._group_s

    def due(self, now: float) -> frozenset[int]:
        """Return the groups that have had their turn since the last call; each of them once, however late this is."""
        turn = math.floor((now - self._began) / self._group_s)
        turns = range(max(self._turn, turn - self._groups), turn)
        self._turn = max(self._turn, turn)
        return frozenset(each % self._groups for each in turns)

    def group_of(self, number: int) -> int:
        """Return the group of a reader."""
        return number % self._groups
