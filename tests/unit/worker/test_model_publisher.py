"""Test when a worker publishes its models: at once, after a pause, and as soon as the queue's server has lost them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.model.model_names import ModelListing
from shared.store.catalog import ModelCatalog
from tests.support.core import captured_logs
from worker.model_publisher import publish_models
from worker.upstream.model_lists import ModelLists

WHOLE, PARTIAL = ModelListing(("a", "b"), complete=True), ModelListing(("a",), complete=False)
STEP_S, MOST_S = 0.25, 600.0
# So many rounds of the event loop end a pause and begin the next one.
ROUNDS = 10


class Site:
    """The lists of a worker and the catalog of a fleet, on a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listing: ModelListing | None = WHOLE
        self.fault: Exception | None = None
        self.published: list[ModelListing] = []
        self.read_at: list[float] = []
        self.lost = asyncio.Event()
        self._now_s = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now_s)

    async def read(self) -> ModelListing | None:
        """Act as the lists."""
        self.read_at.append(self._now_s)
        return self.listing

    async def publish(self, listing: ModelListing) -> None:
        """Act as the catalog."""
        if self.fault is not None:
            raise self.fault
        self.published.append(listing)

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    async def pauses(self, count: int) -> list[float]:
        """Move the clock until the lists were read so many times more; return the pauses in between."""
        first = len(self.read_at) - 1
        end_s = self._now_s + MOST_S
        while len(self.read_at) <= first + count:
            assert self._now_s < end_s, self.read_at
            self._now_s += STEP_S
            await self.settle()
        times = self.read_at[first:]
        return [after - before for before, after in pairwise(times)]

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish in this block."""
        publisher = publish_models(cast(ModelCatalog, self), cast(ModelLists, self), self.lost)
        task = asyncio.create_task(publisher)
        try:
            await self.settle()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Site]:
    """Return a maker of the site, for a test's event loop."""
    return lambda: Site(monkeypatch)


async def test_the_models_are_published_at_once_and_then_every_thirty_seconds(site: Callable[[], Site]) -> None:
    fleet = site()
    async with fleet.publishing():
        assert fleet.published == [WHOLE]
        assert await fleet.pauses(3) == [30.0] * 3

    assert fleet.published == [WHOLE] * 4


async def test_an_incomplete_listing_is_published_and_read_again_sooner_at_first(site: Callable[[], Site]) -> None:
    fleet = site()
    fleet.listing = PARTIAL
    async with fleet.publishing():
        assert await fleet.pauses(6) == [3.0, 6.0, 12.0, 24.0, 30.0, 30.0]

    assert fleet.published == [PARTIAL] * 7


async def test_the_first_pause_is_short_again_after_a_complete_listing(site: Callable[[], Site]) -> None:
    fleet = site()
    fleet.listing = PARTIAL
    async with fleet.publishing():
        assert await fleet.pauses(2) == [3.0, 6.0]
        fleet.listing = WHOLE
        await fleet.pauses(1)
        fleet.listing = PARTIAL
        assert await fleet.pauses(3) == [30.0, 3.0, 6.0]


async def test_a_worker_that_knows_no_models_publishes_nothing(site: Callable[[], Site]) -> None:
    fleet = site()
    fleet.listing = None
    async with fleet.publishing():
        assert await fleet.pauses(2) == [3.0, 6.0]

    assert fleet.published == []


async def test_a_server_that_lost_its_data_gets_the_models_at_once(site: Callable[[], Site]) -> None:
    fleet = site()
    async with fleet.publishing():
        fleet.lost.set()
        await fleet.settle()

        assert fleet.published == [WHOLE] * 2
        assert not fleet.lost.is_set()


async def test_a_fault_of_redis_is_logged_and_the_models_are_published_later(site: Callable[[], Site]) -> None:
    fleet = site()
    fleet.fault = RedisConnectionError("gone")
    with captured_logs() as logs:
        async with fleet.publishing():
            fleet.fault = None
            assert await fleet.pauses(1) == [3.0]

    assert fleet.published == [WHOLE]
    assert [line["error"] for line in logs.named("worker.models_not_published")] == ["ConnectionError"]
