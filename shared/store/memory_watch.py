"""Watch how full the servers are, so that new jobs are refused while there is still memory for those that run.

A server without `maxmemory` is never full. Not here: the ceiling of the embedded server
(shared/process/embedded_valkey.py), and the fitness of a server (server_watch.py).
"""

from collections.abc import Mapping
from typing import Any, cast

import structlog

from shared.model.bounds import MEMORY_RESERVE
from shared.model.errors import MemoryFull
from shared.model.metrics import Metrics
from shared.store.client import Client, Outage
from shared.store.repeated_check import repeat

_CHECK_S = 1.0

log = structlog.get_logger()


class MemoryWatch:
    """One gateway's watch on the memory of its servers, by their sides (`queue`, `jobs`)."""

    def __init__(self, servers: Mapping[str, Client], metrics: Metrics, *, check_s: float = _CHECK_S) -> None:
        self._servers = servers
        self._check_s = check_s
        self._refused = metrics.refused.of("memory")
        self._full: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Read the memory in use now and then, until cancelled."""
        await repeat(self.check, self._check_s, Outage("memory.not_checked", "memory.checked_again"))

    async def check(self) -> None:
        """Read the memory in use once. Raises one of `REDIS_FAULTS`."""
        full = frozenset([side for side, client in self._servers.items() if await _is_full(client)])
        if full and not self._full:
            log.error("memory.full", sides=sorted(full))
        elif self._full and not full:
            log.info("memory.free_again")
        self._full = full

    async def refuse_if_full(self) -> None:
        """Refuse a new job if a server is nearly full. Only then, the memory is read again, so that none is refused
        once it is free.

        Raises:
            MemoryFull: no memory is left for new jobs.
        """
        if self._full:
            await self.check()
        if self._full:
            self._refused.add()
            raise MemoryFull("Redis is nearly full; try again when stored jobs have expired.")


async def memory_of(client: Client) -> int:
    """Read the bytes that a server may use: its `maxmemory`, or all of its machine's."""
    memory = cast(dict[str, Any], await client.info("memory"))
    return int(memory.get("maxmemory", 0)) or int(memory["total_system_memory"])


async def _is_full(client: Client) -> bool:
    memory = cast(dict[str, Any], await client.info("memory"))
    most = int(memory.get("maxmemory", 0))
    return most > 0 and counted(memory) >= most - most // MEMORY_RESERVE


def counted(memory: Mapping[str, Any]) -> int:
    """Return the bytes of `INFO memory` that count against `maxmemory`: buffers of the AOF and of replicas do not."""
    return int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
