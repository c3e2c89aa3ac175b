"""The breaker states that all workers share: one small value per provider's model, changed by compare-and-set.

Not here: the meaning of a value (worker/model/breaker.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from shared.store.client import Functions
from shared.store.keys import Keys


class Change(NamedTuple):
    """A change of one breaker state from the value that was read. `new` is None to read only; b"" deletes it."""

    name: str
    seen: bytes = b""
    new: bytes | None = None


class Found(NamedTuple):
    """A breaker state after the change: whether it was `changed`, and its value, which may be empty."""

    changed: bool
    value: bytes


class BreakerStates:
    """All breaker states, on the jobs' server."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._functions = Functions(client, keys)
        self._keys = keys

    async def compare_and_set(self, changes: Sequence[Change]) -> tuple[int, list[Found]]:
        """Make each change if the state still has the value that was read, in one round trip.

        Returns Redis's time (ms) and each state.
        """
        args = [part for c in changes for part in (c.name, c.seen, int(c.new is not None), c.new or b"")]
        now_ms, *found = await self._functions.call("compare_and_set", [self._keys.breaker_states], *args)
        return int(now_ms), [Found(bool(c), value) for c, value in zip(found[::2], found[1::2], strict=True)]

    async def all(self) -> tuple[int, dict[str, bytes]]:
        """Read Redis's time (ms) and all stored states by name."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(self._keys.breaker_states)
            (seconds, microseconds), found = await pipe.execute()
        return seconds * 1000 + microseconds // 1000, {name.decode(): value for name, value in found.items()}
