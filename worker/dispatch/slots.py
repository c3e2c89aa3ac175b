"""Count the slots of one process by lane, and signal when one is free.

Not here: the order of the lanes (shared/model/lanes.py), and the jobs that hold the slots (dispatcher.py).
"""

import asyncio
from collections.abc import Iterable

from shared.model.lanes import Lane, LaneScheduler


class Slots:
    """The slots of one process; each holds one job of one lane."""

    def __init__(self, count: int, lanes: Iterable[Lane] = ()) -> None:
        self.count = count
        self._scheduler = LaneScheduler([], count)
        self._lanes: set[str] = set()
        self._busy = 0
        self._available = asyncio.Event()
        self._reopened = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        for lane in lanes:
            self.add(lane)

    @property
    def busy(self) -> int:
        """Return the number of slots that hold a job."""
        return self._busy

    def serves(self, lane: str) -> bool:
        """Check whether the lane was added."""
        return lane in self._lanes

    def add(self, lane: Lane) -> None:
        """Add a lane, which may get slots from now on."""
        self._lanes.add(lane.name)
        self._scheduler.add(lane)
        self._reopened.set()
        self._update()

    def order(self) -> list[str]:
        """Return the lanes that may get the next slot, the first one first."""
        return self._scheduler.order()

    def lanes_to_ask(self) -> list[str]:
        """Return the same lanes; `reopened` ends when another one joins them from now on."""
        self._reopened.clear()
        return self.order()

    def occupy(self, lane: str) -> None:
        """Give a slot to a job of this lane, which `order` contains."""
        self._scheduler.charge(lane)
        self._busy += 1
        self._idle.clear()
        self._update()

    def free(self, lane: str) -> None:
        """Release a slot of a job of this lane."""
        if lane not in self.order():
            self._reopened.set()
        self._scheduler.free(lane)
        self._busy -= 1
        self._update()
        if not self._busy:
            self._idle.set()

    def _update(self) -> None:
        if self.order():
            self._available.set()
        else:
            self._available.clear()

    async def available(self) -> None:
        """Wait until a lane may get a slot."""
        await self._available.wait()

    async def reopened(self) -> None:
        """Wait until a lane may get a slot that could not at the last `lanes_to_ask`.

        No wake-up follows for the jobs that wait in it already.
        """
        await self._reopened.wait()

    async def idle(self) -> None:
        """Wait until no slot holds a job."""
        await self._idle.wait()
