"""The state of a running upstream, as its tests see it: its requests, its connections and its meter.

Not here: sockets (connection.py).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.meter import Meter
from tests.support.unread import Unread
from tests.support.upstream.manner import Manner
from tests.support.upstream.seen import Seen
from worker.upstream.providers.scripted import MODEL

TIMEOUT_S = 5.0
_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tailrace"}


class Upstream:
    """A running upstream, as its tests see it. `key`: the only API key that is let in; None: each is."""

    def __init__(self, base_url: str, key: str | None, manner: Manner) -> None:
        self.base_url = base_url
        self.key = key
        self.manner = manner
        self.unread: Unread | None = None
        self.meter = Meter()
        self.models: object = {"object": "list", "data": [_MODEL]}
        """The answer to `/models`; None: no answer, for ever."""
        self.held: set[int] = set()
        """Which embeddings requests, counted from 0, are never answered."""
        self.requests: list[Seen] = []
        self.sockets = 0
        """Open connections that have carried a request."""
        self.connections = 0
        """All that ever did."""
        self._changed = asyncio.Event()

    @property
    def closed(self) -> int:
        """How many streams were closed by their clients."""
        return sum(seen.closed for seen in self.requests)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so, for at most `TIMEOUT_S`.

        Raises:
            TimeoutError: it never was.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def request(self, number: int = 0) -> Seen:
        """Return the request of this number, once it is there."""
        await self.until(lambda: len(self.requests) > number)
        return self.requests[number]

    def notice(self) -> None:
        """Something has changed."""
        self._changed.set()

    async def say_no_more(self, seen: Seen) -> None:
        """Send nothing more in answer to this request, for ever."""
        seen.silent = True
        self.notice()
        await asyncio.Event().wait()

    def observations(self) -> dict[str, Any]:
        """Return the contents of `/observations`."""
        requests = [seen.as_dict() for seen in self.requests]
        return {"requests": requests, "closed": self.closed, "sockets": self.sockets}
