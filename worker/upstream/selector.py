"""The choice of a link of a chain: the first with a closed circuit and a provider with a free place.

Not here: the order in which the links are tried, the meaning of a failure (both worker/model/retry.py), and the state
that is shared with all workers (breakers.py, concurrency.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shared.model.errors import AttemptFailed, CircuitOpen, ProviderRefused
from shared.store.retrying import retry_until_redis_answers
from worker.model.retry import Sort, classify
from worker.upstream.breakers import NO, Allowance, Breakers, CallOrigin
from worker.upstream.chain import Link
from worker.upstream.concurrency import Concurrency

# A job that finds no place waits here for so long (s), then gives its slot to another one for a while.
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to call one provider. If `closed`, its circuit is open, and so is that of each other link."""

    link: int
    provider: str
    model: str
    closed: bool = False
    origin: CallOrigin = field(kw_only=True, compare=False)

    def check(self) -> None:
        """Raise CircuitOpen if no provider may be called."""
        if self.closed:
            raise CircuitOpen(f"The provider {self.provider} has failed too often and is not called for a while.")


class ProviderSelector:
    """Permit and end the calls to all providers of this process."""

    def __init__(self, breakers: Breakers, concurrency: Concurrency) -> None:
        self._breakers = breakers
        self._concurrency = concurrency
        self._trials: dict[str, Allowance] = {}
        """The allowance of each job whose call is a trial that is not reported yet."""

    async def enter(
        self, job_id: str, links: Sequence[Link], order: Sequence[int], asked: str, origin: CallOrigin
    ) -> Permit | None:
        """Permit a call to one of these links for the model that was asked for; None if none has a place now.

        Each pass is given back by `leave`.
        """
        full: list[Permit] = []
        ways = [Permit(link, links[link].name, links[link].model(asked), origin=origin) for link in order]
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

    async def _has_place(self, way: Permit, job_id: str, wait_s: float) -> bool:
        return await retry_until_redis_answers(lambda: self._concurrency.acquire(way.provider, job_id, wait_s))

    async def _allows(self, way: Permit, job_id: str) -> bool:
        """Return whether the circuit allows the call; if not, give the place back."""
        allowed = NO
        try:
            allowed = await self._breakers.allows(way.provider, way.model, way.origin)
        finally:
            if not allowed.granted:
                await self._concurrency.release(way.provider, job_id)
        if allowed.trials:
            self._trials[job_id] = allowed
        return allowed.granted

    async def leave(self, job_id: str, way: Permit) -> None:
        """End the call. Give back a trial without a report, so that it blocks no other."""
        if way.closed:
            return
        if trial := self._trials.pop(job_id, None):
            await self._breakers.given_back(trial)
        await self._concurrency.release(way.provider, job_id)

    def succeeded(self, job_id: str, way: Permit) -> None:
        """Report a whole answer of the provider."""
        self._trials.pop(job_id, None)
        self._breakers.succeeded(way.provider, way.model, way.origin)

    def failed(self, job_id: str, way: Permit, error: AttemptFailed) -> None:
        """Report a failed attempt: the provider's fault, or a refusal, which shows that it is well."""
        if way.closed:
            return
        if classify(error).sort in (Sort.TRANSIENT, Sort.TRUNCATED):
            self._trials.pop(job_id, None)
            self._breakers.failed(way.provider, way.model, way.origin)
        elif isinstance(error, ProviderRefused):
            self._trials.pop(job_id, None)
            self._breakers.succeeded(way.provider, way.model, way.origin)
