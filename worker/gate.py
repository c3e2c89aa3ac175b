"""Which link of a chain is asked: the first whose circuit is closed and whose provider has a place for one more call.

Above: attempts.py. Below: breakers and concurrency, which share their state with all workers. Not here: in which order
the links are tried (retry.py), and what counts as a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.errors import AttemptFailed, CircuitOpen, ProviderRefused
from worker.breakers import Breakers
from worker.concurrency import Concurrency
from worker.ending import persistently
from worker.fallback import Link
from worker.retry import Sort, classify

# A job that finds no place waits here for so long (s), then gives its slot to another one for a while.
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Pass:
    """The leave to ask a link. Where `closed`, its circuit is open, and so is that of each other."""

    link: int
    provider: str
    model: str
    closed: bool = False

    def check(self) -> None:
        """Raise CircuitOpen if nobody is to be asked."""
        if self.closed:
            raise CircuitOpen(f"The provider {self.provider} has failed too often; it is not asked for a while.")


class Gate:
    """The way to all providers of this process."""

    def __init__(self, breakers: Breakers, concurrency: Concurrency) -> None:
        self._breakers = breakers
        self._concurrency = concurrency

    async def enter(self, job_id: str, links: Sequence[Link], order: Sequence[int], asked: str) -> Pass | None:
        """Leave to ask one of these links for the model that was asked for; None if none has a place now.

        Whoever gets one leaves again (`leave`).
        """
        full: list[Pass] = []
        ways = [Pass(link, links[link].name, links[link].model(asked)) for link in order]
        for way in ways:
            if not await self._has_place(way, job_id, 0):
                full.append(way)
            elif await self._allows(way, job_id):
                return way
        if not full:
            return replace(ways[0], closed=True)
        way = full[0]
        if not await self._has_place(way, job_id, _WAIT_S):
            return None
        return way if await self._allows(way, job_id) else replace(way, closed=True)

    async def _has_place(self, way: Pass, job_id: str, wait_s: float) -> bool:
        return await persistently(lambda: self._concurrency.acquire(way.provider, job_id, wait_s))

    async def _allows(self, way: Pass, job_id: str) -> bool:
        """Whether the circuit is closed; if not, the place is given back."""
        allowed = False
        try:
            allowed = await self._breakers.allows(way.provider, way.model)
        finally:
            if not allowed:
                await self._concurrency.release(way.provider, job_id)
        return allowed

    async def leave(self, job_id: str, way: Pass) -> None:
        """The call is over."""
        if not way.closed:
            await self._concurrency.release(way.provider, job_id)

    def succeeded(self, way: Pass) -> None:
        """The provider has given its answer, whole."""
        self._breakers.succeeded(way.provider, way.model)

    def failed(self, way: Pass, error: AttemptFailed) -> None:
        """The attempt failed: by the provider's fault, or it has shown that it is well."""
        if way.closed:
            return
        if classify(error).sort in (Sort.TRANSIENT, Sort.TRUNCATED):
            self._breakers.failed(way.provider, way.model)
        elif isinstance(error, ProviderRefused):
            self._breakers.succeeded(way.provider, way.model)
