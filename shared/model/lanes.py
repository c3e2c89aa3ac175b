"""Parse lanes and compute the order in which they are asked: smooth weighted round robin.

`take` applies the order in one step, so that it is work-conserving: an empty lane costs nothing.
Pure. Not here: taking a job (worker/dispatch/dispatcher.py).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DEFAULT_LANE = "default"

_ENTRY = re.compile(r"([a-z][a-z0-9_-]{0,31}):([0-9]{1,4})(?::([0-9]{1,5}))?")
_LARGEST_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Lane:
    """A priority queue and its share of the slots, relative to the other lanes' weights.

    `cap` is the most slots of one worker process that it may hold; None: all of them.
    """

    name: str
    weight: int = 1
    cap: int | None = None


def parse_lanes(entries: Sequence[str]) -> tuple[Lane, ...]:
    """Parse lanes from `name:weight` and `name:weight:cap` entries.

    Raises:
        ValueError: the sentence names the correct form.
    """
    lanes = tuple(map(_parse, entries))
    names = [lane.name for lane in lanes]
    if DEFAULT_LANE not in names:
        raise ValueError(f"one of the lanes must be {DEFAULT_LANE}, which takes the jobs that name no lane")
    if len(set(names)) < len(names):
        raise ValueError("each lane may be named only once")
    return lanes


def _parse(entry: str) -> Lane:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(
            "each lane must be name:weight or name:weight:cap, as in low:1 or low:1:20; "
            "a name has at most 32 of a-z 0-9 _ -, the first of them a letter"
        )
    name, weight, cap = match[1], int(match[2]), None if match[3] is None else int(match[3])
    if not 1 <= weight <= _LARGEST_WEIGHT:
        raise ValueError(f"a lane's weight must be a whole number from 1 to {_LARGEST_WEIGHT}")
    if cap == 0:
        raise ValueError("a lane's cap must be at least 1 slot: with none, its jobs would never run")
    return Lane(name, weight, cap)


class LaneScheduler:
    """The order of the lanes for one process's slots.

    Smooth weighted round robin (as in nginx's upstream balancer): each lane gets its share, evenly spread.
    """

    def __init__(self, lanes: Iterable[Lane], slots: int) -> None:
        self._slots = slots
        self._lanes: dict[str, Lane] = {}
        self._credit: dict[str, int] = {}
        self._held: dict[str, int] = {}
        for lane in lanes:
            self.add(lane)

    def add(self, lane: Lane) -> None:
        """Add a lane, which counts as empty until now."""
        self._lanes[lane.name] = lane
        self._credit[lane.name] = 0
        self._held[lane.name] = 0

    def order(self) -> list[str]:
        """Return the lanes that may have another slot, the next one first; empty while no slot is free."""
        if sum(self._held.values()) >= self._slots:
            return []
        due = {lane.name: self._credit[lane.name] + lane.weight for lane in self._lanes.values() if self._open(lane)}
        return sorted(due, key=lambda name: -due[name])

    def _open(self, lane: Lane) -> bool:
        return lane.cap is None or self._held[lane.name] < lane.cap

    def charge(self, name: str) -> None:
        """Charge a slot to the lane from which a job was taken. Lanes asked before it were empty and get no credit.

        Otherwise a lane that was empty for a long time would starve all others for as long.
        """
        asked = self.order()
        for lane in asked[asked.index(name) :]:
            self._credit[lane] += self._lanes[lane].weight
            self._credit[name] -= self._lanes[lane].weight
        self._held[name] += 1

    def free(self, name: str) -> None:
        """Release a slot of this lane."""
        self._held[name] -= 1
