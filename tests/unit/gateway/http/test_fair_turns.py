"""Test turns: one request has it at a time, and the tenants that wait have it one after the other."""

import asyncio

import pytest

from gateway.http.fair_turns import FairTurns
from shared.model.errors import TooManyLargeRequests

TIMEOUT_S = 5.0


class Crowd:
    """Requests that wait for turns: `had` are those that had one, in order; each holds it until `go`."""

    def __init__(self, most_waiting: int = 10) -> None:
        self.turns = FairTurns(most_waiting)
        self.had: list[str] = []
        self.go = asyncio.Semaphore(0)

    async def hold(self, name: str) -> None:
        """Have a turn; the first letter of the name is the tenant."""
        async with self.turns.turn(name[0]):
            self.had.append(name)
            await self.go.acquire()

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        """Let requests arrive in this order."""
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(self.hold(name)))
            await asyncio.sleep(0)
        return tasks

    async def leave(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let all of them have their turns."""
        for _ in tasks:
            self.go.release()
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_tenants_take_turns_however_many_requests_one_of_them_has() -> None:
    crowd = Crowd()
    tasks = await crowd.come("b1", "b2", "b3", "b4", "a1", "c1", "a2")
    await crowd.leave(tasks)

    assert crowd.had == ["b1", "b2", "a1", "c1", "b3", "a2", "b4"]


async def test_a_request_without_competitors_has_its_turn_at_once() -> None:
    crowd = Crowd()
    await crowd.leave(await crowd.come("a1"))
    await crowd.leave(await crowd.come("b1"))

    assert crowd.had == ["a1", "b1"]


async def test_one_request_at_a_time_has_the_turn() -> None:
    crowd = Crowd()
    tasks = await crowd.come("a1", "b1")

    assert crowd.had == ["a1"]
    await crowd.leave(tasks)


async def test_a_tenant_with_too_many_requests_is_refused_and_others_are_not() -> None:
    crowd = Crowd(most_waiting=2)
    tasks = await crowd.come("b1", "b2", "b3")

    with pytest.raises(TooManyLargeRequests, match="2 of your large requests"):
        await crowd.hold("b4")
    tasks += await crowd.come("a1")
    await crowd.leave(tasks)
    assert crowd.had == ["b1", "b2", "a1", "b3"]


async def test_a_request_that_is_cancelled_while_it_waits_gives_its_place_to_another() -> None:
    crowd = Crowd(most_waiting=1)
    tasks = await crowd.come("b1", "b2")
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])

    tasks += await crowd.come("b3")
    await crowd.leave(tasks)
    assert crowd.had == ["b1", "b3"]


async def test_a_turn_given_to_a_cancelled_request_passes_to_the_next_one() -> None:
    crowd = Crowd()
    async with crowd.turns.turn("a"):
        tasks = await crowd.come("b1", "c1")
    tasks[0].cancel()

    await crowd.leave(tasks)
    assert crowd.had == ["c1"]


async def test_a_request_that_fails_in_its_turn_gives_it_back() -> None:
    crowd = Crowd()
    with pytest.raises(ZeroDivisionError):
        async with crowd.turns.turn("a"):
            raise ZeroDivisionError

    await crowd.leave(await crowd.come("b1"))
    assert crowd.had == ["b1"]
