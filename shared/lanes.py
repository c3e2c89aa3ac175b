"""Lanes and the order in which they are asked: smooth weighted round robin.

The order is worked out here and carried out by `take` in one step, so that it is work-conserving: an empty lane costs
nothing. Above: lane_worker.py. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_LANE = "default"


@dataclass(frozen=True, slots=True)
class Lane:
    """A priority queue and its share of the slots, relative to the other lanes' weights."""

    name: str
    weight: int = 1


class Rota:
    """Smooth weighted round robin (as in nginx's upstream balancer): each lane gets its share, evenly spread."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._weights = {lane.name: lane.weight for lane in lanes}
        self._credit = dict.fromkeys(self._weights, 0)

    def order(self) -> list[str]:
        """The lanes, the one whose turn it is first."""
        due = {name: self._credit[name] + weight for name, weight in self._weights.items()}
        return sorted(due, key=lambda name: -due[name])

    def charge(self, name: str) -> None:
        """A job was taken from this lane. Those asked before it were empty and are owed nothing for it.

        Otherwise a lane that was empty for long would then starve all others for as long.
        """
        asked = self.order()
        for lane in asked[asked.index(name) :]:
            self._credit[lane] += self._weights[lane]
            self._credit[name] -= self._weights[lane]
