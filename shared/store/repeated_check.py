"""Repeat a check of a server until cancelled, and log an outage once.

Not here: loops that do more than check.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from shared.store.client import REDIS_FAULTS, Outage


async def repeat(check: Callable[[], Awaitable[object]], every_s: float, outage: Outage) -> NoReturn:
    """Check, and again `every_s` after each check, until cancelled. `check` may raise one of `REDIS_FAULTS`."""
    while True:
        try:
            await check()
            outage.is_over()
        except REDIS_FAULTS as error:
            outage.continues(error)
        await asyncio.sleep(every_s)
