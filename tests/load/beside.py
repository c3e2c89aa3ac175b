"""The effect of a neighbour that does its worst on a tenant: the same calls alone and beside it, turn by turn.

Not here: the neighbour, which is a process (neighbour.py), and rows of other scenarios.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.process.child import start_child, stop_child
from tests.load.caller import Broken, Caller
from tests.load.generator import Hearing, steady, submit
from tests.load.mock_upstream import Order
from tests.load.results_table import Budget, ResultsTable
from tests.load.testbed import NEIGHBOUR_KEY, SharedFleet

EVERY_S: Final = 0.05
PAUSE_S: Final = 0.2
"""Between two turns of each of the neighbour's ways; ten times as long after a megabyte."""
_TOKENS: Final = 5
_READY_S: Final = 60.0
_STOP_S: Final = 90.0
_MOST = Budget("direct ×", 1.5)


@dataclass
class Noticed:
    """The times of the tenant's calls, in seconds, and their faults."""

    submit_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def use(self, caller: Caller) -> None:
        """Submit a job, hear its answer, and read its record."""
        hearing = Hearing(_TOKENS)
        hearing.asked_at = time.monotonic()
        try:
            job = await submit(caller, Order(_TOKENS))
            submitted_at = time.monotonic()
            await caller.ask("GET", f"/v1/jobs/{job}/events", on_body=hearing.hear)
            answer = await caller.ask("GET", f"/v1/jobs/{job}")
        except Broken as error:
            self.faults.append(f"beside a neighbour: {error}")
            return
        self.faults += hearing.end().faults
        self.submit_s.append(submitted_at - hearing.asked_at)
        if hearing.arrivals:
            self.first_s.append(hearing.first_s)
        assert answer.ended_at is not None
        self.read_s.append(answer.ended_at - answer.asked_at)

    def note(self, results: ResultsTable, column: str, beside: str, most: Budget | None) -> None:
        """Note the percentiles in this column; `most` is the budget of the 99th."""
        for label, seconds in (("submit", self.submit_s), ("first token", self.first_s), ("read", self.read_s)):
            results.spread(f"{label}, beside {beside}", column, seconds, {99: most})
        results.faults += self.faults


async def compare(fleet: SharedFleet, results: ResultsTable, *, turns: int, samples: int) -> None:
    """Use the fleet alone and beside the neighbour, so many times each, by turns; then once beside one without pauses.

    In the results, `direct` is alone.
    """
    await _use(fleet, max(1, samples // 10))  # the first calls open connections
    for _ in range(turns):
        await _turn(fleet, results, samples, "a neighbour", PAUSE_S, _MOST)
    await _turn(fleet, results, samples, "one without pauses", 0.0, None)


async def _turn(
    fleet: SharedFleet, results: ResultsTable, samples: int, beside: str, pause_s: float, most: Budget | None
) -> None:
    (await _use(fleet, samples)).note(results, "direct", beside, most)
    async with _neighbour(fleet, pause_s):
        (await _use(fleet, samples)).note(results, "tailrace", beside, most)


async def _use(fleet: SharedFleet, samples: int) -> Noticed:
    noticed = Noticed()
    await steady(lambda _: noticed.use(fleet.caller), count=samples, every_s=EVERY_S)
    return noticed


@asynccontextmanager
async def _neighbour(fleet: SharedFleet, pause_s: float) -> AsyncIterator[None]:
    argv = [sys.executable, "-m", "tests.load.neighbour", "--port", str(fleet.caller.port), "--key", NEIGHBOUR_KEY]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = await start_child([*argv, "--pause-s", str(pause_s)], env=env, stdin=PIPE, output=PIPE)
    try:
        if (said := await _said(process, _READY_S)) != "ready":
            raise Broken(f"The neighbour did not begin: {said}")
        yield
        assert process.stdin is not None
        process.stdin.close()
        print(f"  the neighbour's turns: {await _said(process, _STOP_S)}", file=sys.stderr, flush=True)
    finally:
        await stop_child(process, 1.0)


async def _said(process: Process, within_s: float) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(within_s):
        return (await process.stdout.readline()).decode().strip()
