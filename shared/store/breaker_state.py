"""The circuits that all workers share: one small value for each provider's model, exchanged if nobody was faster.

Above: breakers.py, which knows what a circuit is, and the gateway, which shows them. Below: functions/. Not
here: what a value says.
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from shared.store.client import Functions
from shared.store.keys import Keys


class Change(NamedTuple):
    """Of one circuit: its value as it was seen, and what it shall be. `new` is None only to look; b"" forgets it."""

    name: str
    seen: bytes = b""
    new: bytes | None = None


class Found(NamedTuple):
    """Whether a circuit was `changed`, and what it is now: empty where there is none."""

    changed: bool
    value: bytes


class Circuits:
    """All circuits, on the jobs' server."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def exchange(self, changes: Sequence[Change]) -> tuple[int, list[Found]]:
        """Carry out each change whose circuit is still as it was seen, in one round trip.

        Returns Redis's time (ms), and how each circuit was found.
        """
        args = [part for c in changes for part in (c.name, c.seen, int(c.new is not None), c.new or b"")]
        now_ms, *found = await self._functions.call("exchange", [self._keys.circuits], *args)
        return int(now_ms), [Found(bool(c), value) for c, value in zip(found[::2], found[1::2], strict=True)]

    async def all(self) -> tuple[int, dict[str, bytes]]:
        """Redis's time (ms), and every circuit that is kept, by its name."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(self._keys.circuits)
            (seconds, microseconds), found = await pipe.execute()
        return seconds * 1000 + microseconds // 1000, {name.decode(): value for name, value in found.items()}
