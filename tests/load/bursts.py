"""Streams that begin together: first tokens, and whether each token then comes in time.

`lane` is the public stream lane of onthebench.ai: 64 frames, one each 20 ms, on ever more streams at once.
Not here: streams that begin evenly spaced (scenarios.py).
"""

from typing import Final

from tests.load.generator import Received, together
from tests.load.mock_upstream import Order
from tests.load.results_table import Budget, ResultsTable
from tests.load.sizes import Size
from tests.load.testbed import LoadTestbed

WITHIN_S: Final = 0.2
"""All streams of a burst begin within this time."""
_RATE: Final = 50.0
_BURST_TOKENS: Final = 50
_FIRST_TOKEN_MS: Final = {64: 20.0, 200: 300.0}
_STALL_S: Final = 2 / _RATE
"""A gap that is longer is a stall: a token came later than the next one was due."""


async def burst(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """First tokens of streams that begin within `WITHIN_S`."""
    for _ in range(size.rounds):
        for count in size.bursts:
            for who, ask in testbed.asking.items():
                received = await together(ask, Order(_BURST_TOKENS, _RATE), count=count, within_s=WITHIN_S)
                most = _FIRST_TOKEN_MS.get(count)
                budget = Budget("direct +", most, of="chat") if most else None
                load = f"{count} streams within {WITHIN_S:g} s"
                results.spread(f"first token, {load}", who, received.first_s, {50: budget})
                results.faults += received.faults


async def lane(testbed: LoadTestbed, results: ResultsTable, size: Size) -> None:
    """First tokens and gaps on ever more streams, and how many of them never stall."""
    for _ in range(size.rounds):
        for count in size.lane:
            for who, ask in testbed.asking.items():
                received = await together(ask, Order(size.lane_tokens, _RATE), count=count, within_s=WITHIN_S)
                load = f"lane of {count:,} streams"
                results.spread(f"first token, {load}", who, received.first_s)
                results.spread(f"gap, {load}", who, received.gaps_s)
                results.note(f"streams without a stall, {load}", "", who, without_stall(received))
                results.faults += received.faults


def without_stall(received: Received) -> int:
    """Count the streams of a load with tokens that all came before the next one was due."""
    return sum(
        max(hearing.gaps_between(received.begin, received.end), default=0.0) <= _STALL_S
        for hearing in received.hearings
    )
