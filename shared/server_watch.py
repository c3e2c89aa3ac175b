"""What a process does about its servers while it runs: it deletes functions that no version of Tailrace calls any more.

Not here: the checks at the start (valkey.py), and what any step does.
"""

import asyncio
from collections.abc import Sequence

from shared.valkey import REDIS_FAULTS, Functions, Outage

_DROP_S = 3600.0


class ServerWatch:
    """One process's care for the servers that it uses."""

    def __init__(self, functions: Sequence[Functions], *, drop_s: float = _DROP_S) -> None:
        self._functions = functions
        self._drop_s = drop_s

    async def run(self) -> None:
        """Delete unused functions now and then, until cancelled."""
        outage = Outage("functions.not_dropped", "functions.dropped_again")
        while True:
            try:
                for each in self._functions:
                    await each.drop_unused()
                outage.is_over()
            except REDIS_FAULTS as error:
                outage.goes_on(error)
            await asyncio.sleep(self._drop_s)
