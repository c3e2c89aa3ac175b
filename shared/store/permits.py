"""Places at providers: how many calls all workers together make to one of them at the same time.

A semaphore with leases: whoever dies gives its place back when its lease ends. Who finds no place waits in the order of
asking, and keeps its turn for a while when it goes away. Above: concurrency.py, and the gateway, which shows
them. Below: shared/store/functions. Not here: waiting.
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from shared.store.client import Functions
from shared.store.keys import Keys

TURN_S = 3.0
"""Who asked and has not asked again for so long has lost its turn."""


class Holder(NamedTuple):
    """A worker process that makes a call for a job."""

    provider: str
    worker: str
    job_id: str

    @property
    def name(self) -> str:
        """What its place is called."""
        return f"{self.worker}/{self.job_id}"


class Places:
    """The places at all providers, on the jobs' server."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def acquire(self, holder: Holder, limit: int, lease_s: float, *, queue: bool = True) -> bool:
        """Take a place if there is one, and nobody's turn comes before the job's; if not, `queue` for one, or don't."""
        keys = self._keys.places(holder.provider)
        return bool(
            await self._functions.call(
                "acquire",
                [keys.holders, keys.waiters, keys.interest],
                holder.name,
                holder.job_id,
                limit,
                int(lease_s * 1000),
                int(TURN_S * 1000) if queue else "",
            )
        )

    async def release(self, holder: Holder) -> None:
        """Give the place back, and tell the workers if somebody waits for one; idempotent."""
        keys = self._keys.places(holder.provider)
        order = place_order(holder.provider)
        await self._functions.call(
            "release_place", [keys.holders, keys.waiters], holder.name, self._keys.control, order
        )

    async def renew(self, holders: Sequence[Holder], lease_s: float) -> None:
        """Hold on to these places, in one round trip."""
        if holders:
            keys = [self._keys.places(holder.provider).holders for holder in holders]
            names = [holder.name for holder in holders]
            await self._functions.call("renew_places", keys, int(lease_s * 1000), *names)

    async def taken(self, provider: str) -> int:
        """How many places are taken."""
        return int(await self._client.zcard(self._keys.places(provider).holders))


_ORDER = "place:"


def place_order(provider: str) -> bytes:
    """What workers are told when a place has become free."""
    return f"{_ORDER}{provider}".encode()


def freed_provider(order: bytes) -> str | None:
    """The provider at which a place has become free; None if the order says something else."""
    text = order.decode("utf-8", "replace")
    return text.removeprefix(_ORDER) if text.startswith(_ORDER) else None
