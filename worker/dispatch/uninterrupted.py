"""Run steps on Redis that belong together to their end, although the task that runs them is cancelled.

Not here: the tasks that a stopping worker cancels (worker/app.py).
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from shared.store.client import REDIS_FAULTS

T = TypeVar("T")


async def run_uninterrupted(steps: Coroutine[Any, Any, T], within_s: float | None = None) -> T:
    """Return the result of these steps; if the caller is cancelled, they end first, and the cancellation follows.

    A second cancellation cancels them too, and so does the end of `within_s` after the first one.

    Raises:
        RedisError, OSError: one of `REDIS_FAULTS` from the steps, unless the caller was cancelled.
    """
    running = asyncio.create_task(steps)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([running], timeout=within_s)
        finally:
            running.cancel()
        with suppress(*REDIS_FAULTS):
            if running.done():
                running.result()
        raise
