"""How many calls to a provider are made at once, over all workers.

Above: gate.py. Below: shared/store/permits.py. A provider without a limit costs nothing. Not here: whether it is well
(breakers.py).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

from shared.store.client import REDIS_FAULTS, Outage
from shared.store.permits import ConcurrencyPermits, PermitHolder
from shared.telemetry.metrics import Metrics

# A freed place is told by a message, which can be lost: asked again after this long (s).
_ASK_S = 0.25
_BEATS_PER_LEASE = 4


class Concurrency:
    """This process's calls to providers that have limits."""

    def __init__(
        self,
        permits: ConcurrencyPermits,
        limits: Mapping[str, int],
        *,
        worker: str,
        lease_s: float,
        metrics: Metrics | None = None,
    ) -> None:
        """`limits` are those of the providers that have one; `worker` is this process's name, its own alone."""
        self._permits = permits
        self._limits = limits
        self._worker = worker
        self._lease_s = lease_s
        self._held: set[PermitHolder] = set()
        self._freed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._outage = Outage("concurrency.not_renewed", "concurrency.renewed_again")
        gauge = (metrics or Metrics()).calls
        for provider in limits:
            gauge.of(provider).read = partial(self._calls, provider)

    async def acquire(self, provider: str, job_id: str, wait_s: float) -> bool:
        """Have a place for a call, waiting for one for at most so long; whoever has it gives it back (`release`).

        Who does not wait gets into nobody's way: only who waits has a turn.
        """
        if provider not in self._limits:
            return True
        holder = PermitHolder(provider, self._worker, job_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            freed = self._freed[provider]
            freed.clear()
            if await self._permits.acquire(holder, self._limits[provider], self._lease_s, queue=wait_s > 0):
                self._held.add(holder)
                return True
            left_s = until - loop.time()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(min(left_s, _ASK_S)):
                    await freed.wait()
            except TimeoutError:
                continue

    async def release(self, provider: str, job_id: str) -> None:
        """Give a place back; where Redis is away, its lease ends by itself."""
        holder = PermitHolder(provider, self._worker, job_id)
        if holder not in self._held:
            return
        self._held.discard(holder)
        self.freed(provider)
        try:
            await self._permits.release(holder)
        except REDIS_FAULTS as error:
            self._outage.goes_on(error)

    def freed(self, provider: str) -> None:
        """A place has become free: whoever waits for one asks again."""
        self._freed[provider].set()

    def _calls(self, provider: str) -> int:
        return sum(each.provider == provider for each in self._held)

    async def run(self) -> None:
        """Hold on to what is held, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / _BEATS_PER_LEASE)
            try:
                await self._permits.renew([*self._held], self._lease_s)
                self._outage.is_over()
            except REDIS_FAULTS as error:
                self._outage.goes_on(error)
