"""The seeded plan of faults, with their times, for each part of the fleet. Pure.

Parts fail independently of each other, so that faults overlap; those of one part come one after the other.
"""

import random
from collections.abc import Set
from dataclasses import dataclass
from itertools import product

GATEWAYS = ("gateway 1", "gateway 2")
WORKERS = ("worker 1", "worker 2")
VALKEY, QUEUE = "valkey", "queue"
"""The jobs' server, and the queue's."""
CONNECTIONS = "connections"
AHEAD_S = {"ahead": 3600, "behind": -600}
"""How far a server's clock is moved by the faults of that kind."""

# `crash` is the end of a machine with `appendfsync everysec`: the last second is gone. A server that is demoted,
# denies a right or runs a long script is there, and refuses. One that is `ahead` or `behind` has its clock moved, and
# set right again: it leaps both ways, by an hour and by ten minutes.
_SERVER_FAULTS = (
    *(("kill", 2.0), ("crash", 2.0), ("stop", 2.0), ("freeze", 4.0), ("slow", 3.0)),
    *(("demote", 2.0), ("deny", 2.0), ("busy", 2.0), ("ahead", 3.0), ("behind", 3.0), ("flush", 1.0)),
)
_PARTS: dict[str, tuple[tuple[str, float], ...]] = {
    # The faults of a part, and how long at most (s) until it is whole again.
    "gateway": (("kill", 1.5), ("freeze", 3.0), ("stop", 1.0)),
    "worker": (("kill", 1.5), ("freeze", 6.0), ("stop", 1.0)),
    VALKEY: (*_SERVER_FAULTS, ("outage", 10.0)),
    # `amnesia` is a new server without data in its place.
    QUEUE: (*_SERVER_FAULTS, ("amnesia", 2.0)),
    CONNECTIONS: (("cut pubsub", 0.0), ("cut normal", 0.0), ("cut one", 0.0)),
}
LONGEST_S = max(most_s for kinds in _PARTS.values() for _, most_s in kinds)
"""No fault lasts longer (s)."""
_PAUSES_S = {
    "gateway": (3.0, 9.0),
    "worker": (3.0, 12.0),
    VALKEY: (3.0, 7.0),
    QUEUE: (3.0, 7.0),
    CONNECTIONS: (0.5, 4.0),
}
_DEADLY = {(VALKEY, "kill"), (VALKEY, "crash"), (VALKEY, "outage"), (VALKEY, "flush")}
# A part needs about so long to come back by itself.
_RETURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` happens to `part` at `at_s` (s) for `lasts_s`; a killed or stopped part is then started again."""

    part: str
    kind: str
    at_s: float
    lasts_s: float

    @property
    def forgets(self) -> bool:
        """Return whether jobs may be lost: their server is killed, with `appendfsync everysec`, or flushed."""
        return (self.part, self.kind) in _DEADLY


def plan(seed: int, seconds: float, *, spare_valkey: bool = False, clocks: bool = True) -> dict[str, list[Fault]]:
    """The faults of each part, in order; the same for the same seed.

    With `spare_valkey` it is never killed; `clocks` says whether servers' clocks can be moved.
    """
    excluded = {*(_DEADLY if spare_valkey else ()), *(() if clocks else product((VALKEY, QUEUE), AHEAD_S))}
    parts = (*GATEWAYS, *WORKERS, VALKEY, QUEUE, CONNECTIONS)
    return {part: _plan_of(part, seed, seconds, excluded) for part in parts}


def _plan_of(part: str, seed: int, seconds: float, excluded: Set[tuple[str, str]]) -> list[Fault]:
    chance = random.Random(f"{seed}/{part}")
    sort = part.partition(" ")[0]
    kinds = [kind for kind in _PARTS[sort] if (sort, kind[0]) not in excluded]
    faults: list[Fault] = []
    round_: list[tuple[str, float]] = []
    at_s = chance.uniform(*_PAUSES_S[sort]) / 2
    while at_s < seconds:
        # Round after round, so that each kind happens as often as any other.
        round_ = round_ or chance.sample(kinds, len(kinds))
        kind, most_s = round_.pop()
        lasts_s = chance.uniform(most_s / 4, most_s)
        faults.append(Fault(part, kind, round(at_s, 2), round(lasts_s, 2)))
        at_s += lasts_s + _RETURN_S + chance.uniform(*_PAUSES_S[sort])
    return faults
