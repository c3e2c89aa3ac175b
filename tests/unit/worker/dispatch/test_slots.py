"""Test the slots of one process: their counts, the lanes that may have the next one, and the signals."""

import asyncio
from collections.abc import Awaitable

from shared.model.lanes import Lane
from worker.dispatch.slots import Slots

HIGH, LOW = Lane("high", 2), Lane("low", 1)
CAPPED = Lane("capped", 1, cap=1)


async def waits(signal: Awaitable[None]) -> bool:
    """Check whether the signal is still awaited after the loop has run everything that is ready."""
    waiting = asyncio.ensure_future(signal)
    for _ in range(3):
        await asyncio.sleep(0)
    waited = not waiting.done()
    waiting.cancel()
    return waited


async def test_slots_are_counted_from_occupied_to_freed() -> None:
    slots = Slots(3, [HIGH, LOW])

    slots.occupy("low")
    slots.occupy("high")
    assert (slots.count, slots.busy) == (3, 2)

    slots.free("low")
    assert slots.busy == 1


async def test_the_next_slot_goes_to_the_lane_with_the_most_credit() -> None:
    slots, given = Slots(6, [HIGH, LOW]), list[str]()
    for _ in range(6):
        lane = slots.order()[0]
        slots.occupy(lane)
        given.append(lane)

    assert given == ["high", "low", "high", "high", "low", "high"]


async def test_no_lane_may_be_asked_while_all_slots_are_occupied() -> None:
    slots = Slots(1, [HIGH])
    assert not await waits(slots.available())

    slots.occupy("high")
    assert slots.order() == []
    assert await waits(slots.available())

    slots.free("high")
    assert slots.order() == ["high"]
    assert not await waits(slots.available())


async def test_a_lane_at_its_cap_is_not_asked_though_a_slot_is_free() -> None:
    slots = Slots(2, [CAPPED])

    slots.occupy("capped")

    assert slots.order() == []
    assert await waits(slots.available())


async def test_a_lane_that_falls_below_its_cap_is_reopened() -> None:
    slots = Slots(4, [CAPPED, LOW])
    slots.occupy("capped")
    assert slots.lanes_to_ask() == ["low"]
    assert await waits(slots.reopened())

    slots.free("capped")

    assert not await waits(slots.reopened())
    assert set(slots.lanes_to_ask()) == {"capped", "low"}
    assert await waits(slots.reopened())


async def test_a_freed_slot_of_a_lane_that_was_asked_reopens_nothing() -> None:
    slots = Slots(4, [LOW])
    slots.occupy("low")
    slots.lanes_to_ask()

    slots.free("low")

    assert await waits(slots.reopened())


async def test_an_added_lane_is_served_and_reopened() -> None:
    slots = Slots(2, [HIGH])
    slots.lanes_to_ask()
    assert not slots.serves("low")

    slots.add(LOW)

    assert slots.serves("low")
    assert not await waits(slots.reopened())
    assert slots.order() == ["high", "low"]


async def test_a_lane_that_is_added_to_a_process_without_lanes_makes_a_slot_available() -> None:
    slots = Slots(1)
    assert await waits(slots.available())

    slots.add(LOW)

    assert not await waits(slots.available())


async def test_a_process_is_idle_when_its_last_job_has_left() -> None:
    slots = Slots(2, [LOW])
    assert not await waits(slots.idle())

    slots.occupy("low")
    slots.occupy("low")
    slots.free("low")
    assert await waits(slots.idle())

    slots.free("low")
    assert not await waits(slots.idle())
