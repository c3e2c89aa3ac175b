"""Give turns at something that one request at a time may use: the tenants that wait have turns one after the other.

Not here: the work that is done in a turn (heavy_work.py).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.model.errors import TooManyLargeRequests


class FairTurns:
    """Order the requests that wait: each tenant's in the order of arrival, and the tenants by turns."""

    def __init__(self, most_waiting: int) -> None:
        """Let `most_waiting` requests of one tenant wait."""
        self._most_waiting = most_waiting
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn of this tenant, and hold it as long as the context is open.

        Raises:
            TooManyLargeRequests: as many of the tenant's requests wait as may.
        """
        if self._taken:
            await self._wait(tenant)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: str) -> None:
        if len(self._waiting.get(tenant, ())) >= self._most_waiting:
            raise TooManyLargeRequests.at(self._most_waiting)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(tenant, turn)
            else:  # the turn has come just before
                self._pass_on()
            raise

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting[tenant]
        turns.remove(turn)
        if not turns:
            del self._waiting[tenant]

    def _pass_on(self) -> None:
        """Give the turn to the next tenant, which then is the last one."""
        if not self._waiting:
            self._taken = False
            return
        tenant, turns = self._waiting.popitem(last=False)
        turns.popleft().set_result(None)
        if turns:
            self._waiting[tenant] = turns
