"""Repeat calls to Redis through an outage. Not here: errors that do not pass (shared/store/wire/redis_answers.py)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.store.client import REDIS_DOWN, Backoff, Outage

T = TypeVar("T")

_PAUSE_FIRST_S = 0.05
_PAUSE_MOST_S = 1.0


async def retry_until_redis_answers(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until Redis answers it. The call must be idempotent: an answer can be lost after its effect."""
    outage = Outage("worker.waits_for_redis", "worker.waited_for_redis")
    pauses = Backoff(_PAUSE_FIRST_S, _PAUSE_MOST_S)
    while True:
        try:
            result = await call()
            outage.is_over()
            return result
        except REDIS_DOWN as error:
            outage.continues(error)
        await asyncio.sleep(pauses.next_s())
