"""The access of a run to its targets: through the providers of a model's route, or without any provider.

A kind of job that calls no provider needs no route, takes no permit and changes no circuit breaker. Not here: the
choice among providers (worker/upstream/selector.py), and the attempts themselves (attempt_sequence.py).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from shared.model.errors import AttemptFailed, ProviderUnable
from worker.upstream.breakers import CallOrigin
from worker.upstream.chain import Chain, ProviderTarget
from worker.upstream.selector import Permit
from worker.upstream.wire.chunk import Chunk


class Chains(Protocol):
    """Choose the targets of a job."""

    def chain(self, model: str) -> Chain:
        """Return the chain of this model; raises ModelNotFound."""


class Selector(Protocol):
    """Permit and end attempts at targets, as `ProviderSelector` does."""

    async def enter(
        self, job_id: str, targets: Sequence[ProviderTarget], order: Sequence[int], asked: str, origin: CallOrigin
    ) -> Permit | None:
        """Permit an attempt at one of these targets; None if none is free now."""

    async def leave(self, job_id: str, permit: Permit) -> None:
        """End the attempt."""

    def succeeded(self, job_id: str, permit: Permit) -> None:
        """Report a success."""

    def failed(self, job_id: str, permit: Permit, error: AttemptFailed) -> None:
        """Report a failure."""


@dataclass(frozen=True, slots=True)
class TargetAccess:
    """The targets of jobs, and the permission to use them."""

    chains: Chains
    selector: Selector


def without_provider(max_attempts: int) -> TargetAccess:
    """Return the access of a kind that calls no provider; its jobs end after so many failed attempts."""
    nothing = _Nothing(max_attempts)
    return TargetAccess(nothing, nothing)


class _Nothing:
    """Permit each attempt at once. The only target stands for the worker itself."""

    def __init__(self, max_attempts: int) -> None:
        target = ProviderTarget(_NoProvider(), first_token_s=0, gap_s=0)
        self._chain = Chain((target,), max_attempts=max_attempts)

    def chain(self, model: str) -> Chain:
        return self._chain

    async def enter(
        self, job_id: str, targets: Sequence[ProviderTarget], order: Sequence[int], asked: str, origin: CallOrigin
    ) -> Permit:
        return Permit(order[0], targets[order[0]].name, asked, origin=origin)

    async def leave(self, job_id: str, permit: Permit) -> None:
        return None

    def succeeded(self, job_id: str, permit: Permit) -> None:
        return None

    def failed(self, job_id: str, permit: Permit, error: AttemptFailed) -> None:
        return None


class _NoProvider:
    """Refuse each call, because the kind of job has said that it makes none."""

    name = ""

    def stream(self, request: Mapping[str, Any]) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        raise ProviderUnable("A job of this kind has no provider that it could call.")

    async def models(self) -> list[str]:
        return []

    async def close(self) -> None:
        return None
