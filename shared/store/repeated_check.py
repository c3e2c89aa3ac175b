"""Repeats a look at a server for as long as a process runs, and tells an outage once.

Above: the watches of a process's servers. Below: valkey. Not here: loops that do more than look.
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
            outage.goes_on(error)
        await asyncio.sleep(every_s)
