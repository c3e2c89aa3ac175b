"""Keys that would stay in Redis for ever: each must have a time to live, but for those that a prefix has once."""

from shared.store.client import Client
from shared.store.keys import Keys


async def endless_keys(client: Client, keys: Keys) -> list[str]:
    """Return the keys of a prefix, and those of arq, that never expire, without the few that may stay."""
    found: list[str] = []
    for pattern in (f"{keys.prefix}:*", "arq:*"):
        names = [name async for name in client.scan_iter(match=pattern, count=1000)]
        async with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.pttl(name)
            left = await pipe.execute()
        found += [name.decode() for name, ms in zip(names, left, strict=True) if ms == -1]
    return sorted(set(found) - {keys.secret, keys.reconciled, keys.marker, keys.clock, keys.arq_is_prefixed})
