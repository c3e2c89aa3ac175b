"""Test the viewers of jobs, on the real server: their reports, the time for which these hold, and the effects."""

import asyncio

from shared.model.jobs import VIEWER_LEASE_S, Abandonment, OnDisconnect
from shared.model.lifecycle import State
from shared.store.viewers import View
from tests.support.core import TIMEOUT_S, Core, fresh_job_id

DISCONNECT_GRACE_S = 5.0
ABANDONABLE = Abandonment(OnDisconnect.CANCEL, first_viewer_timeout_s=60.0, disconnect_grace_s=DISCONNECT_GRACE_S)


async def report(core: Core, gateway: str, job_id: str, readers: int, reconnect_grace_s: float = 0.0) -> float | None:
    """Report the readers; return in how many seconds the job is abandoned, as the answer states."""
    (left_s,) = await core.viewers.report(gateway, [View(job_id, readers, reconnect_grace_s)])
    return left_s


async def count(core: Core, job_id: str) -> int:
    (viewers,) = await core.viewers.count([job_id])
    return viewers


async def recorded_s(core: Core, job_id: str) -> float:
    """Return in how many seconds the job is abandoned, as its record states."""
    seconds, micros = await core.client.time()
    return (await core.job(job_id)).abandon_ms / 1000 - int(seconds) - int(micros) / 1e6


async def let_pass(core: Core, job_id: str, by_s: float) -> None:
    """Move the gateways' reports into the past, and all times that follow from them."""
    keys = core.keys.job(job_id)
    for gateway in await core.client.zrange(keys.viewers, 0, -1):
        await core.client.zincrby(keys.viewers, -by_s * 1000, gateway)
    await core.client.hincrby(keys.record, "abandon_at", -int(by_s * 1000))  # type: ignore[misc]


async def test_viewers_are_counted_over_all_gateways(core: Core) -> None:
    one, two = await core.running(), await core.running()

    await core.viewers.report("g.1", [View(one.job_id, 3), View(two.job_id, 1)])
    await core.viewers.report("g.2", [View(one.job_id, 2)])
    assert await core.viewers.count([one.job_id, two.job_id, fresh_job_id()]) == [5, 1, 0]
    await core.viewers.report("g.1", [View(one.job_id, 1), View(two.job_id, 0)])
    assert await core.viewers.count([one.job_id, two.job_id]) == [3, 0]


async def test_an_empty_report_and_an_empty_count_return_nothing(core: Core) -> None:
    assert await core.viewers.report("g.1", []) == []
    assert await core.viewers.count([]) == []


async def test_a_viewed_job_lives_for_the_lease_and_the_grace_period(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)

    left_s = await report(core, "g.1", job_id, 1)

    assert left_s == VIEWER_LEASE_S + DISCONNECT_GRACE_S
    assert left_s - TIMEOUT_S < await recorded_s(core, job_id) <= left_s


async def test_when_the_last_viewer_leaves_the_job_has_its_time_alone(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)
    await report(core, "g.1", job_id, 2)
    await report(core, "g.2", job_id, 1)

    still = await report(core, "g.1", job_id, 0)
    assert still is not None and still > VIEWER_LEASE_S
    assert await report(core, "g.2", job_id, 0) == DISCONNECT_GRACE_S
    assert await recorded_s(core, job_id) <= DISCONNECT_GRACE_S


async def test_a_viewer_released_by_its_gateway_keeps_its_lease(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)
    await report(core, "g.1", job_id, 1)

    assert await report(core, "g.1", job_id, 0, VIEWER_LEASE_S) == VIEWER_LEASE_S + DISCONNECT_GRACE_S
    assert await count(core, job_id) == 0


async def test_a_departure_reported_again_changes_nothing(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)
    await report(core, "g.1", job_id, 1)
    await report(core, "g.1", job_id, 0)
    before = (await core.job(job_id)).abandon_ms

    again = await report(core, "g.1", job_id, 0)

    assert again is not None and again <= DISCONNECT_GRACE_S
    assert (await core.job(job_id)).abandon_ms == before


async def test_a_departure_without_an_arrival_leaves_the_time_for_the_first_viewer(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)
    before = (await core.job(job_id)).abandon_ms

    left_s = await report(core, "g.1", job_id, 0)

    assert left_s is not None and left_s > DISCONNECT_GRACE_S
    assert (await core.job(job_id)).abandon_ms == before


async def test_the_viewers_of_a_silent_gateway_are_no_longer_counted(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE)
    await report(core, "dead", job_id, 7)
    await let_pass(core, job_id, VIEWER_LEASE_S)

    assert await count(core, job_id) == 0
    assert await recorded_s(core, job_id) <= DISCONNECT_GRACE_S
    await report(core, "g.2", job_id, 1)
    assert await count(core, job_id) == 1
    keys = core.keys.job(job_id)
    assert await core.client.zrange(keys.viewers, 0, -1) == [b"g.2"]
    assert await core.client.hgetall(keys.readers) == {b"g.2": b"1"}  # type: ignore[misc]


async def test_a_job_that_continues_anyway_has_viewers_all_the_same(core: Core) -> None:
    job_id = await core.queued()

    assert await report(core, "g.1", job_id, 1) is None
    assert await count(core, job_id) == 1
    assert await report(core, "g.1", job_id, 0) is None
    assert (await core.job(job_id)).abandon_ms == 0


async def test_no_viewers_are_kept_of_an_ended_or_missing_job(core: Core) -> None:
    execution = await core.running(abandonment=ABANDONABLE)
    await report(core, "g.1", execution.job_id, 1)
    await core.finish(execution, State.COMPLETED)
    before = await core.job(execution.job_id)

    for job_id in (execution.job_id, fresh_job_id()):
        assert await report(core, "g.1", job_id, 1) is None
        keys = core.keys.job(job_id)
        assert await core.client.exists(keys.viewers, keys.readers) == 0
    assert await core.job(execution.job_id) == before


async def test_a_report_expires_by_itself(core: Core) -> None:
    job_id = await core.queued()
    await report(core, "g.1", job_id, 1)

    keys = core.keys.job(job_id)
    for key in (keys.viewers, keys.readers):
        assert 0 < await core.client.pttl(key) <= VIEWER_LEASE_S * 1000


async def test_a_caller_that_waits_for_the_answer_is_recorded_with_the_job(core: Core) -> None:
    job_id = await core.queued(abandonment=ABANDONABLE, viewer="g.1")

    assert await count(core, job_id) == 1
    assert VIEWER_LEASE_S < await recorded_s(core, job_id) <= VIEWER_LEASE_S + DISCONNECT_GRACE_S
    assert await report(core, "g.1", job_id, 0) == DISCONNECT_GRACE_S


async def test_a_viewer_after_the_time_keeps_the_job_unless_it_was_given_up(core: Core) -> None:
    in_time, late = await core.running(abandonment=ABANDONABLE), await core.running(abandonment=ABANDONABLE)
    for execution in (in_time, late):
        await let_pass(core, execution.job_id, 60.0)

    await report(core, "g.1", in_time.job_id, 1)
    assert await core.store.abandon(in_time.job_id, 0) == "watched"
    assert await core.store.abandon(late.job_id, 0) == "cancelling"
    await report(core, "g.1", late.job_id, 1)
    assert (await core.job(late.job_id)).status is State.CANCELLING


async def test_an_arriving_viewer_and_the_reaper_agree(core: Core) -> None:
    """Race the report of a viewer with the reaper: a viewer that was reported in time never sees the job abandoned."""
    for _ in range(50):
        execution = await core.running(abandonment=ABANDONABLE)
        await let_pass(core, execution.job_id, 60.0)
        left_s, answer = await asyncio.gather(
            report(core, "g.1", execution.job_id, 1), core.store.abandon(execution.job_id, 0)
        )
        status = (await core.job(execution.job_id)).status
        assert left_s == VIEWER_LEASE_S + DISCONNECT_GRACE_S
        assert (answer, status) in (("watched", State.RUNNING), ("cancelling", State.CANCELLING))
