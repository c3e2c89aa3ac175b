"""The system that clients are tested against: a gateway's address, and the requests that the upstream behind it saw.

conftest.py starts the processes. Not here: any client that is under test.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from shared.model.events import Event
from tests.support.client import TIMEOUT_S, Client

KEY = "sk-alice"


class ObservedUpstream:
    """The scripted upstream in its own process. Requests are distinguished by model: each test requests its own."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._address = base_url.removesuffix("/v1") + "/observations"

    async def requests(self, model: str) -> list[dict[str, Any]]:
        """Return the requests for this model up to now."""
        return self._of(model, await self._observe())

    async def until_asked(self, model: str, *, times: int = 1) -> dict[str, Any]:
        """Wait for a request for this model, or for so many; the first of them."""
        async with asyncio.timeout(TIMEOUT_S):
            seen = await self._observe()
            while len(self._of(model, seen)) < times:
                seen = await self._observe(requests=len(seen["requests"]) + 1)
        return self._of(model, seen)[0]

    async def until_closed(self, model: str) -> dict[str, Any]:
        """Wait until a request for this model was closed by Tailrace before its answer had ended."""
        async with asyncio.timeout(TIMEOUT_S):
            seen = await self._observe()
            while not (closed := [each for each in self._of(model, seen) if each["closed"]]):
                seen = await self._observe(closed=seen["closed"] + 1)
        return closed[0]

    async def _observe(self, **wanted: int) -> Any:
        async with httpx2.AsyncClient(timeout=2 * TIMEOUT_S) as client:
            return (await client.get(self._address, params=wanted)).json()

    @staticmethod
    def _of(model: str, seen: Any) -> list[dict[str, Any]]:
        return [each for each in seen["requests"] if each["model"] == model]


@dataclass(frozen=True)
class System:
    """A gateway at `url` with a worker behind it, and the upstream behind that."""

    url: str
    upstream: ObservedUpstream

    @property
    def base_url(self) -> str:
        """Return the base address for OpenAI's clients."""
        return f"{self.url}/v1"

    @property
    def client(self) -> Client:
        """Return a caller of the native API."""
        port = urlsplit(self.url).port
        assert port is not None
        return Client(port, KEY)

    async def end_of(self, job_id: str) -> Event:
        """Wait for a job's terminal event; other events may arrive before it."""
        async with asyncio.timeout(TIMEOUT_S), self.client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            return (await response.events())[-1]
