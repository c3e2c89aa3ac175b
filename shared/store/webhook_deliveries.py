"""The open deliveries of webhooks, by the time of their next attempt; on the queue's side.

A delivery stays in this list until its receiver has accepted it or it is dead. A worker that makes an attempt has a
claim that expires, and moves the delivery behind it: if the worker dies, the delivery is due again.
Not here: the attempts (worker/webhooks).
"""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from shared.model.webhooks.delivery import Delivery, DeliveryStatus
from shared.store.keys import Keys

CLAIM_S: Final = 30.0
"""A claim's time; an attempt takes at most half of it."""
# The longest pause between two attempts is a day, and the receiver can't ask for more.
_OPEN_KEPT_S: Final = 7 * 86_400
# A completion step that is repeated finds the delivery for this long after its end.
_ENDED_KEPT_S: Final = 3_600


class DeliveryQueue:
    """The deliveries of all tenants."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def add(self, delivery: Delivery, due_ms: int) -> None:
        """Store a delivery whose first attempt is due at this time; idempotent."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.webhook_delivery(delivery.id), delivery.encode(), nx=True, ex=_OPEN_KEPT_S)
            pipe.zadd(self._keys.webhooks_due, {delivery.id: due_ms}, nx=True)
            await pipe.execute()

    async def due(self, now_ms: int, limit: int) -> list[Delivery]:
        """Return deliveries that are due, the longest due first; ended ones are removed from the list."""
        key = self._keys.webhooks_due
        ids = await self._client.zrange(key, 0, now_ms, byscore=True, offset=0, num=limit)
        if not ids:
            return []
        stored = await self._client.mget([self._keys.webhook_delivery(each.decode()) for each in ids])
        read = [None if raw is None else Delivery.decode(raw) for raw in stored]
        still_open = [each for each in read if each is not None and each.status is DeliveryStatus.OPEN]
        if len(still_open) < len(ids):
            known = {each.id.encode() for each in still_open}
            await self._client.zrem(key, *(each for each in ids if each not in known))
        return still_open

    async def put_off(self, delivery_ids: Sequence[str], due_ms: int) -> None:
        """Make these deliveries due at this time, unless they are due later."""
        await self._client.zadd(self._keys.webhooks_due, dict.fromkeys(delivery_ids, due_ms), xx=True, gt=True)

    async def claim(self, delivery_id: str, now_ms: int) -> Delivery | None:
        """Claim a delivery for one attempt; None if another worker has it, or it is not due any more."""
        claim, due = self._keys.webhook_claim(delivery_id), self._keys.webhooks_due
        if not await self._client.set(claim, "1", nx=True, px=int(CLAIM_S * 1000)):
            return None
        # The list is read once the claim is held: another worker may have settled the delivery since.
        score = await self._client.zscore(due, delivery_id)
        stored = await self._client.get(self._keys.webhook_delivery(delivery_id))
        delivery = None if stored is None else Delivery.decode(stored)
        if delivery is None or delivery.status is not DeliveryStatus.OPEN:
            await self._release(delivery_id)
            return None
        if score is None or score > now_ms:
            await self._client.delete(claim)
            return None
        await self._client.zadd(due, {delivery_id: now_ms + int(CLAIM_S * 1000)}, xx=True)
        return delivery

    async def retry(self, delivery: Delivery, due_ms: int) -> None:
        """Store a delivery that is due again at this time, and release the claim."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.webhook_delivery(delivery.id), delivery.encode(), ex=_OPEN_KEPT_S)
            pipe.zadd(self._keys.webhooks_due, {delivery.id: due_ms})
            pipe.delete(self._keys.webhook_claim(delivery.id))
            await pipe.execute()

    async def end(self, delivery: Delivery) -> None:
        """Store a delivery that needs no further attempt, and release the claim."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.webhook_delivery(delivery.id), delivery.encode(), ex=_ENDED_KEPT_S)
            pipe.zrem(self._keys.webhooks_due, delivery.id)
            pipe.delete(self._keys.webhook_claim(delivery.id))
            await pipe.execute()

    async def _release(self, delivery_id: str) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.webhooks_due, delivery_id)
            pipe.delete(self._keys.webhook_claim(delivery_id))
            await pipe.execute()
