"""Test scrapes that arrive together: they share one answer, none of which is older than its caller's request."""

import asyncio

import pytest

from gateway.http.scrape import Scrape
from shared.model.metrics import Count, Metrics, Samples
from shared.process.clock import SystemClock
from shared.store.fleet_metrics import Fleet, Publisher
from shared.store.queue import Queue
from tests.support.core import TIMEOUT_S, Core

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Slow(Fleet):
    """Count the publications of a fleet, and delay them until the test sets `let`."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.client, core.keys)
        self.published_count = 0
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def publish(self, process: str, samples: Samples) -> None:
        self.published_count += 1
        self.asked.set()
        await self.let.wait()
        await super().publish(process, samples)


@pytest.fixture
def fleet(core: Core) -> Slow:
    return Slow(core)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def count(metrics: Metrics) -> Count:
    return metrics.executions.of()


@pytest.fixture
def scrape(core: Core, fleet: Slow, metrics: Metrics) -> Scrape:
    return Scrape(
        Publisher(fleet, metrics, SystemClock(), "gateway"),
        fleet,
        Queue(core.client, core.keys),
        core.dead_letters,
        ["default"],
    )


def executions(answer: tuple[bytes, str]) -> float:
    (line,) = [line for line in answer[0].decode().splitlines() if line.startswith("tailrace_executions_total{")]
    return float(line.rpartition(" ")[2])


async def asking(scrape: Scrape, callers: int, accept: str = "") -> list[asyncio.Task[tuple[bytes, str]]]:
    """Start so many requests for the metrics."""
    tasks = [asyncio.create_task(scrape.answer(accept)) for _ in range(callers)]
    await asyncio.sleep(0)  # their turn
    return tasks


async def answers(tasks: list[asyncio.Task[tuple[bytes, str]]]) -> list[tuple[bytes, str]]:
    async with asyncio.timeout(TIMEOUT_S):
        return await asyncio.gather(*tasks)


async def test_callers_that_arrive_during_a_scrape_share_the_next_one(
    scrape: Scrape, fleet: Slow, count: Count
) -> None:
    first = await asking(scrape, 1)
    await fleet.asked.wait()
    count.add()
    rest = await asking(scrape, 100)
    fleet.let.set()

    assert [executions(answer) for answer in await answers(first)] == [0]
    assert [executions(answer) for answer in await answers(rest)] == [1] * 100
    assert fleet.published_count == 2


async def test_a_later_caller_gets_a_new_scrape(scrape: Scrape, fleet: Slow, count: Count) -> None:
    fleet.let.set()
    for number in range(3):
        assert [executions(answer) for answer in await answers(await asking(scrape, 1))] == [number]
        count.add()


async def test_a_caller_that_leaves_does_not_cancel_the_scrape_of_others(
    scrape: Scrape, fleet: Slow, count: Count
) -> None:
    count.add()
    (first,) = await asking(scrape, 1)
    await fleet.asked.wait()
    rest = await asking(scrape, 2)
    first.cancel()
    fleet.let.set()

    assert [executions(answer) for answer in await answers(rest)] == [1, 1]
    assert fleet.published_count == 2


async def test_a_scrape_makes_two_formats_for_any_requested_version(scrape: Scrape, fleet: Slow) -> None:
    first = [*await asking(scrape, 1), *await asking(scrape, 1, OPENMETRICS)]
    rest = [task for n in range(2, 22) for task in await asking(scrape, 1, OPENMETRICS.replace("1.0.0", f"{n}.0.0"))]
    rest += await asking(scrape, 20, "text/plain;version=1.0.0")
    fleet.let.set()

    assert len({kind for _, kind in await answers([*first, *rest])}) == 2
    assert fleet.published_count == 4
