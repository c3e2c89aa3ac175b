"""How fast an execution's provider speaks, for the metrics: its first token, its gaps, its failures.

Above: attempt.py, which tells each read that brought deltas. On the path of every token: one look at the clock, a
bisection and three additions. Not here: what happens to a provider that is too slow (fallback.py).
"""

from shared.model.errors import AttemptFailed, is_provider_fault
from shared.process.clock import Clock
from shared.telemetry.metrics import Metrics


class Pace:
    """One execution, from its making on."""

    __slots__ = ("_clock", "_deltas", "_failures", "_gaps", "_last", "_next", "_provider")

    def __init__(self, metrics: Metrics, clock: Clock, provider: str) -> None:
        self._clock = clock
        self._provider = provider
        self._failures = metrics.provider_failures
        self._deltas = metrics.deltas.of(provider)
        self._gaps = metrics.gap.of(provider)
        self._next = metrics.first_token.of(provider)
        self._last = clock.monotonic()

    def came(self, deltas: int) -> None:
        """One read brought so many deltas."""
        now = self._clock.monotonic()
        self._deltas.add(deltas)
        self._next.observe(now - self._last)
        self._next = self._gaps
        self._last = now

    def failed(self, error: AttemptFailed) -> None:
        """The attempt is over, perhaps by the provider's fault."""
        if is_provider_fault(error):
            self._failures.of(self._provider, error.code).add()
