"""The limits of simultaneous calls to a provider, over all workers.

A provider without a limit costs nothing. Not here: the provider's health (breakers.py), and the storage of permits
(shared/store/permits.py).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

from shared.model.metrics import Metrics
from shared.store.client import REDIS_FAULTS, Outage
from shared.store.permits import ConcurrencyPermits, PermitHolder

# The message that announces a freed permit can be lost: a waiter tries again after so long (s).
_ASK_S = 0.25
_BEATS_PER_LEASE = 4


class Concurrency:
    """Acquire, renew and release this process's permits for providers that have limits."""

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
        """Acquire a permit for a call within `wait_s`; the caller returns it with `release`.

        A call that does not wait takes no turn in the queue, so it delays no other.
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
        """Release a permit; if Redis is away, its lease ends by itself."""
        holder = PermitHolder(provider, self._worker, job_id)
        if holder not in self._held:
            return
        self._held.discard(holder)
        self.freed(provider)
        try:
            await self._permits.release(holder)
        except REDIS_FAULTS as error:
            self._outage.continues(error)

    def freed(self, provider: str) -> None:
        """Wake the waiters of a provider: a permit has become free."""
        self._freed[provider].set()

    def _calls(self, provider: str) -> int:
        return sum(each.provider == provider for each in self._held)

    async def run(self) -> None:
        """Renew the leases of all held permits until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / _BEATS_PER_LEASE)
            try:
                await self._permits.renew([*self._held], self._lease_s)
                self._outage.is_over()
            except REDIS_FAULTS as error:
                self._outage.continues(error)
