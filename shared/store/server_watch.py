"""Compares a process's servers with its needs while it runs: policy, role and rights can change at any time.

It also deletes the functions of versions of Tailrace that no process runs any more. Not here: the needs
(server_check.py).
"""

from collections.abc import Mapping

import structlog

from shared.model.metrics import Metrics
from shared.process.clock import Clock
from shared.store.client import Client, Functions, Outage
from shared.store.keys import Keys
from shared.store.repeated_check import repeat
from shared.store.server_check import Unfit, find_unfitness

_CHECK_S = 30.0
_DROP_S = 3600.0

log = structlog.get_logger()


class ServerWatch:
    """One process's care for its servers, by their sides (`queue`, `jobs`).

    `unfit` holds the findings of the last comparison; those of a server that does not answer stay.
    """

    def __init__(
        self,
        servers: Mapping[str, Client],
        keys: Keys,
        clock: Clock,
        metrics: Metrics,
        *,
        check_s: float = _CHECK_S,
        drop_s: float = _DROP_S,
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._clock = clock
        self._check_s, self._drop_s = check_s, drop_s
        self._drop_at = clock.monotonic()
        self.unfit: dict[str, Unfit] = {}
        for side in servers:
            metrics.redis_unfit.of(side).read = lambda side=side: side in self.unfit  # type: ignore[misc]

    async def run(self) -> None:
        """Compare now and then, until cancelled."""
        await repeat(self.check, self._check_s, Outage("servers.not_checked", "servers.checked_again"))

    async def check(self) -> None:
        """Compare once, and delete unused functions if it is time. Raises one of `REDIS_FAULTS`."""
        for side, client in self._servers.items():
            self._found(side, await find_unfitness(client, self._keys))
        if self._clock.monotonic() >= self._drop_at:
            for client in self._servers.values():
                await Functions(client, self._keys).drop_unused()
            self._drop_at = self._clock.monotonic() + self._drop_s

    def _found(self, side: str, unfit: Unfit | None) -> None:
        former = self.unfit.pop(side, None)
        if unfit is not None:
            self.unfit[side] = unfit
        if unfit == former:
            return
        if unfit is None:
            log.info("servers.fit_again", side=side)
        else:
            log.error("servers.unfit", side=side, reason=unfit.sentence)
