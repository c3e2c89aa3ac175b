"""The mark by which a server is known: a key that it keeps over restarts, and loses together with all that it held.

A server's `run_id` says less: a flush leaves it as it is. Not here: the values that processes write again after a loss,
and the reconciler (worker/dispatch/reconciler.py).
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from redis.asyncio import Redis

from shared.store.client import Outage
from shared.store.keys import Keys
from shared.store.repeated_check import repeat

log = structlog.get_logger()

_CHECK_S: Final = 2.0
_MARK_BYTES: Final = 12


class ServerMarker:
    """The mark of the server that a client speaks to."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._key = keys.marker

    async def read(self) -> str:
        """Read the mark; a server without one gets a new one. Raises one of `REDIS_FAULTS`."""
        while (mark := await self._client.get(self._key)) is None:
            await self._client.set(self._key, secrets.token_hex(_MARK_BYTES), nx=True)
        return str(mark.decode())


class MarkerWatch:
    """Sees one side's server (`queue` or `jobs`) become another one: flushed, replaced, or restored from nothing."""

    def __init__(self, side: str, client: Redis, keys: Keys, on_change: Callable[[], Awaitable[None]]) -> None:
        """`on_change` may raise one of `REDIS_FAULTS`; it is then called again after the next check."""
        self._side = side
        self._marker = ServerMarker(client, keys)
        self._on_change = on_change
        self._known: str | None = None

    async def run(self) -> None:
        """Check now and then, until cancelled."""
        await repeat(self.check, _CHECK_S, Outage(f"{self._side}_server.not_known", f"{self._side}_server.known_again"))

    async def check(self) -> None:
        """Compare once. The first mark that is read does not count as a change. Raises one of `REDIS_FAULTS`."""
        mark = await self._marker.read()
        if self._known not in (None, mark):
            log.warning("server.forgot", side=self._side)
            await self._on_change()
        self._known = mark
