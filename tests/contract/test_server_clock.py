"""Test the clock of the functions: it never moves back, even if the server's own does."""

import asyncio

import pytest

from shared.model.lanes import DEFAULT_LANE
from shared.model.lifecycle import State
from shared.store.keys import ARQ_IN_PROGRESS
from shared.store.wire.answers import Taken, Written
from tests.support.core import RETENTION_S, Core, make_spec

HOUR_MS = 3_600_000


async def server_ms(core: Core) -> int:
    """Read the server's own clock."""
    seconds, micros = await core.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def kept(core: Core) -> tuple[int, int]:
    """Return the lead of the clock over the server's, and the last time that it gave."""
    ahead, last = (await core.client.get(core.keys.clock)).split()
    return int(ahead), int(last)


async def was_ahead(core: Core, ms: int) -> None:
    """Set the server's clock back: until now it was so far ahead."""
    await core.client.set(core.keys.clock, f"0 {await server_ms(core) + ms}")


async def enqueue(core: Core) -> str:
    """Admit and release a job."""
    spec = make_spec()
    await core.queue_admission.admit(spec, max_depth=10, retention_s=RETENTION_S)
    assert await core.queue_admission.release(spec.id, DEFAULT_LANE)
    return spec.id


async def due_ms(core: Core) -> int:
    """Return when the lane's first job is due."""
    ((_, due),) = await core.client.zrange(core.keys.lane(DEFAULT_LANE), 0, 0, withscores=True)
    return int(due)


async def test_a_correct_clock_is_returned_unchanged(core: Core) -> None:
    before = await server_ms(core)
    reported = await core.store.time_ms()

    assert before <= reported <= await server_ms(core)


async def test_a_clock_that_was_set_back_continues_from_the_last_returned_time(core: Core) -> None:
    await was_ahead(core, HOUR_MS)
    _, last = await kept(core)

    await core.queue.due_for_check(hold_s=1.0, limit=1)  # a step that may write
    first, second = await core.store.time_ms(), await core.store.time_ms()

    assert last <= first <= second <= last + 5_000
    assert abs((await kept(core))[0] - HOUR_MS) < 5_000


async def test_a_reader_gets_the_same_time_before_any_step_has_written_it(core: Core) -> None:
    await was_ahead(core, HOUR_MS)
    _, last = await kept(core)

    for _ in range(10):
        assert last <= await core.store.time_ms() <= last + 5_000


async def test_a_clock_that_is_set_right_again_is_followed(core: Core) -> None:
    """Follow the clock: it was put ahead by an hour, and the server's own clock has caught up."""
    now = await server_ms(core)
    await core.client.set(core.keys.clock, f"{HOUR_MS} {now}")

    reported = await core.store.time_ms()

    assert abs(reported - now) < 5_000


async def test_a_correction_of_less_than_a_second_changes_nothing(core: Core) -> None:
    await was_ahead(core, 500)
    await core.queue.due_for_check(hold_s=1.0, limit=1)

    assert (await kept(core))[0] == 0


async def test_the_key_is_written_once_a_second_and_no_more(core: Core) -> None:
    await core.queue.due_for_check(hold_s=1.0, limit=1)
    first = await kept(core)
    for _ in range(20):
        await core.queue.due_for_check(hold_s=1.0, limit=1)
    last = await kept(core)

    assert last == first or last[1] - first[1] >= 1_000


async def test_a_job_that_waits_is_taken_though_the_clock_was_set_back(core: Core) -> None:
    await was_ahead(core, HOUR_MS)
    await enqueue(core)
    assert await due_ms(core) > await server_ms(core) + HOUR_MS - 5_000

    (backlog,) = await core.queue.backlog([DEFAULT_LANE])
    taken = await core.queue.take([DEFAULT_LANE], "w.1", 10.0)

    assert backlog.jobs == 1
    assert isinstance(taken, Taken)


async def test_a_dead_workers_claim_does_not_last_for_as_long_as_the_clock_was_set_back(core: Core) -> None:
    """Check the claim against Redis, which expires a key at a time by its own clock."""
    job_id = await enqueue(core)
    assert isinstance(await core.queue.take([DEFAULT_LANE], "w.1", 0.2), Taken)
    await core.client.pexpire(ARQ_IN_PROGRESS + job_id, HOUR_MS)
    await core.client.zadd(core.keys.lane(DEFAULT_LANE), {job_id: 0})

    async with asyncio.timeout(5):
        while not isinstance(await core.queue.take([DEFAULT_LANE], "w.2", 0.2), Taken):
            pass


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS])
async def test_an_ended_job_is_kept_for_its_retention_by_the_servers_own_clock(core: Core, ahead_ms: int) -> None:
    await was_ahead(core, ahead_ms)
    execution = await core.running()
    assert await core.finish(execution, State.COMPLETED) == Written()

    left = await core.client.pttl(core.keys.job(execution.job_id).record)

    assert 0 < left <= RETENTION_S * 1000


async def put_forward(core: Core, ms: int) -> None:
    """Put the server's clock forward by so much."""
    ahead, last = await kept(core)
    await core.client.set(core.keys.clock, f"{ahead + ms} {last}")


async def test_a_clock_that_was_put_forward_does_not_change_the_returned_time(core: Core) -> None:
    await core.queue.due_for_check(hold_s=1.0, limit=1)
    before = await core.store.time_ms()
    await put_forward(core, HOUR_MS)

    reported = [await core.store.time_ms()]
    await core.queue.due_for_check(hold_s=1.0, limit=1)
    reported.append(await core.store.time_ms())

    assert all(before <= each < before + 5_000 for each in reported)
    assert abs((await kept(core))[0]) < 5_000
