"""The choice of a target of a chain: the first with a closed circuit and a provider with a free permit.

Not here: the order in which the targets are tried, the meaning of a failure (both worker/model/retry.py), and the state
that is shared with all workers (breakers.py, concurrency.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shared.model.errors import AttemptFailed, CircuitOpen, ProviderRefused, ProviderUnable
from shared.store.retrying import retry_until_redis_answers
from worker.model.retry import FailureClass, classify
from worker.upstream.breakers import NO, Breakers, CallAllowance, CallOrigin
from worker.upstream.chain import ProviderTarget
from worker.upstream.concurrency import Concurrency

# A job that finds no free permit waits here for so long (s), then gives its slot to another one for a while.
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to call one provider. If `circuit_open`, it must not be called, and no other target may be."""

    target: int
    provider: str
    model: str
    circuit_open: bool = False
    origin: CallOrigin = field(kw_only=True, compare=False)

    def check(self) -> None:
        """Raise CircuitOpen if no provider may be called."""
        if self.circuit_open:
            raise CircuitOpen(f"The provider {self.provider} has failed too often and is not called for a while.")


class ProviderSelector:
    """Permit and end the calls to all providers of this process."""

    def __init__(self, breakers: Breakers, concurrency: Concurrency) -> None:
        self._breakers = breakers
        self._concurrency = concurrency
        self._trials: dict[str, CallAllowance] = {}
        """The allowance of each job whose call is a trial that is not reported yet."""

    async def enter(
        self, job_id: str, targets: Sequence[ProviderTarget], order: Sequence[int], asked: str, origin: CallOrigin
    ) -> Permit | None:
        """Permit a call to one of these targets for the model that was asked for; None if none is free now.

        Each permit is returned with `leave`.
        """
        full: list[Permit] = []
        permits = [
            Permit(target, targets[target].name, targets[target].model(asked), origin=origin) for target in order
        ]
        for permit in permits:
            if not await self._acquired(permit, job_id, 0):
                full.append(permit)
            elif await self._allows(permit, job_id):
                return permit
        if not full:
            return replace(permits[0], circuit_open=True)
        permit = full[0]
        if not await self._acquired(permit, job_id, _WAIT_S):
            return None
        return permit if await self._allows(permit, job_id) else replace(permit, circuit_open=True)

    async def _acquired(self, permit: Permit, job_id: str, wait_s: float) -> bool:
        return await retry_until_redis_answers(lambda: self._concurrency.acquire(permit.provider, job_id, wait_s))

    async def _allows(self, permit: Permit, job_id: str) -> bool:
        """Return whether the circuit allows the call; if not, release the permit."""
        allowed = NO
        try:
            allowed = await self._breakers.allows(permit.provider, permit.model, permit.origin)
        finally:
            if not allowed.granted:
                await self._concurrency.release(permit.provider, job_id)
        if allowed.trials:
            self._trials[job_id] = allowed
        return allowed.granted

    async def leave(self, job_id: str, permit: Permit) -> None:
        """End the call. Give back a trial without a report, so that it blocks no other."""
        if permit.circuit_open:
            return
        if trial := self._trials.pop(job_id, None):
            await self._breakers.given_back(trial)
        await self._concurrency.release(permit.provider, job_id)

    def succeeded(self, job_id: str, permit: Permit) -> None:
        """Report a whole answer of the provider."""
        self._trials.pop(job_id, None)
        self._breakers.succeeded(permit.provider, permit.model, permit.origin)

    def failed(self, job_id: str, permit: Permit, error: AttemptFailed) -> None:
        """Report a failed attempt: the provider's fault, or a refusal, which shows that it is well."""
        if permit.circuit_open or isinstance(error, ProviderUnable):
            return
        if classify(error).failure_class in (FailureClass.TRANSIENT, FailureClass.TRUNCATED):
            self._trials.pop(job_id, None)
            self._breakers.failed(permit.provider, permit.model, permit.origin)
        elif isinstance(error, ProviderRefused):
            self._trials.pop(job_id, None)
            self._breakers.succeeded(permit.provider, permit.model, permit.origin)
