"""The circuit of each receiver of webhooks: one that keeps failing gets fewer attempts at a time, and pauses.

A worker has its own circuits; they spend its slots on receivers that answer. The schedule of a delivery is unchanged.
Pure: time comes in as a number. Not here: the schedule (webhook_attempt.py), and circuits of providers (breaker.py).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from worker.model.webhook_attempt import Attempted

SLOTS: Final = 4
"""Attempts at a time for a receiver that answers."""
FAILURES: Final = 5
"""Failures in a row that open a circuit."""
RECEIVERS: Final = 1_024
"""Receivers that have failed last and are remembered; tenants choose them, so their number is bounded."""
_FIRST_PAUSE_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 300.0
_DOUBLINGS: Final = 5
_TOO_MANY_REQUESTS: Final = 429


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until_s: float = 0.0


class ReceiverCircuits:
    """The circuits of the receivers that have failed; the others need none."""

    def __init__(self) -> None:
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def slots(self, receiver: str, now_s: float) -> int:
        """Return the number of attempts that the receiver may get at a time."""
        circuit = self._circuits.get(receiver)
        if circuit is None or circuit.failures < FAILURES:
            return SLOTS
        return 1 if now_s >= circuit.open_until_s else 0

    def record(self, receiver: str, attempted: Attempted, now_s: float) -> None:
        """Record the result of an attempt; an answer closes the circuit, unless it reports an overload or a defect."""
        if not _is_trouble(attempted.status):
            self._circuits.pop(receiver, None)
            return
        circuit = self._circuits.setdefault(receiver, _Circuit())
        self._circuits.move_to_end(receiver)
        circuit.failures += 1
        doublings = min(max(circuit.failures - FAILURES, 0), _DOUBLINGS)
        circuit.open_until_s = now_s + min(_FIRST_PAUSE_S * 2**doublings, _LONGEST_PAUSE_S)
        if len(self._circuits) > RECEIVERS:
            self._circuits.popitem(last=False)


def _is_trouble(status: int | None) -> bool:
    return status is None or status >= 500 or status == _TOO_MANY_REQUESTS
