"""Measure the provider of an execution for the metrics: its first token, the gaps between tokens, its failures.

It runs for each read that brought deltas, on the path of every token: it costs one reading of the clock, a bisection
and three additions.
Not here: the time-outs of a slow provider (worker/upstream/chain.py).
"""

from shared.model.errors import AttemptFailed, is_provider_fault
from shared.model.metrics import Metrics
from shared.process.clock import Clock


class TokenLatency:
    """The measurement of one execution, from its creation on."""

    __slots__ = ("_clock", "_deltas", "_failures", "_gaps", "_last", "_next", "_provider", "first_at")

    def __init__(self, metrics: Metrics, clock: Clock, provider: str) -> None:
        self._clock = clock
        self._provider = provider
        self._failures = metrics.provider_failures
        self._deltas = metrics.deltas.of(provider)
        self._gaps = metrics.gap.of(provider)
        self._next = metrics.first_token.of(provider)
        self._last = clock.monotonic()
        self.first_at: float | None = None
        """The time of the first read that brought deltas."""

    def came(self, deltas: int) -> None:
        """Record a read that brought so many deltas."""
        now = self._clock.monotonic()
        if self.first_at is None:
            self.first_at = now
        self._deltas.add(deltas)
        self._next.observe(now - self._last)
        self._next = self._gaps
        self._last = now

    def failed(self, error: AttemptFailed) -> None:
        """Count the attempt's failure if it is the provider's fault."""
        if is_provider_fault(error):
            self._failures.of(self._provider, error.code).add()
