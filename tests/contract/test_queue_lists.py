"""Test the lists of the queue on a real server: a tenant's jobs, and the backlog of a lane."""

from dataclasses import replace

import pytest

from shared.model.jobs import LONGEST_TIMEOUT_S, created_ms, new_job_id
from shared.store.queue import Backlog
from tests.contract.queues import LANE, admit, enqueue, move, server_ms, take
from tests.support.core import TIMEOUT_S, Core, fresh_job_id, make_spec


async def listing(core: Core, limit: int) -> list[str]:
    """Return all of alice's jobs, page by page."""
    found: list[str] = []
    while page := await core.tenant_lists.listed("alice", after=found[-1] if found else None, limit=limit):
        assert len(page) <= limit
        found += page
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 100])
async def test_a_tenants_jobs_are_listed_newest_first_page_by_page(core: Core, limit: int) -> None:
    specs = [await enqueue(core) for _ in range(7)]
    await enqueue(core, tenant="bob")

    assert await listing(core, limit) == sorted((spec.id for spec in specs), reverse=True)


async def test_paging_continues_where_it_was_when_the_last_one_shown_is_dropped(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(7)]
    ids = sorted((spec.id for spec in specs), reverse=True)
    for place in range(7):
        await core.tenant_lists.unlist("alice", [ids[place]])

        assert await core.tenant_lists.listed("alice", after=ids[place], limit=2) == ids[place + 1 : place + 3]


async def test_jobs_of_one_millisecond_are_each_listed_once(core: Core) -> None:
    base = make_spec()
    ids = [new_job_id(created_ms(base.id), n) for n in range(6)]
    for job_id in ids:
        await admit(core, replace(base, id=job_id))

    assert await listing(core, 2) == ids[::-1]
    await core.tenant_lists.unlist("alice", [ids[3]])
    assert await core.tenant_lists.listed("alice", after=ids[3], limit=9) == ids[2::-1]


async def test_the_list_is_in_the_order_of_the_ids_and_not_of_admission(core: Core) -> None:
    base = make_spec()
    ids = [new_job_id(created_ms(base.id) - ago_ms, 1) for ago_ms in (30, 0, 50, 10, 40, 20)]
    for job_id in ids:
        await admit(core, replace(base, id=job_id))
        await next_millisecond(core)

    assert await listing(core, 2) == sorted(ids, reverse=True)


async def next_millisecond(core: Core) -> None:
    now = await server_ms(core)
    while await server_ms(core) == now:
        pass


async def test_a_tenant_without_jobs_has_an_empty_list(core: Core) -> None:
    assert await core.tenant_lists.listed("nobody", after=None, limit=5) == []
    assert await core.tenant_lists.listed("nobody", after=fresh_job_id(), limit=5) == []
    await core.tenant_lists.unlist("nobody", [])


async def test_jobs_that_can_no_longer_be_read_leave_the_list_by_themselves(core: Core) -> None:
    hour_ms, longest_ms = 3_600_000, int(LONGEST_TIMEOUT_S * 1000)
    young = make_spec(timeout_s=30.0)
    # Another job of the tenant may have been given the longest time-out there is.
    kept = replace(young, id=new_job_id(created_ms(young.id) - longest_ms, 1))
    gone = replace(young, id=new_job_id(created_ms(young.id) - longest_ms - 2 * hour_ms, 1))
    for spec in (gone, kept, young):
        await admit(core, spec)

    assert await core.tenant_lists.listed("alice", after=None, limit=9) == [young.id, kept.id]


async def test_a_server_that_is_there_answers(core: Core) -> None:
    await core.queue.ping()


async def test_an_empty_lane_has_no_backlog(core: Core) -> None:
    assert await core.queue.backlog([LANE]) == [Backlog(LANE, 0, 0.0)]


async def test_a_backlog_counts_the_due_jobs_and_has_the_age_of_the_oldest(core: Core) -> None:
    specs = [await enqueue(core) for _ in range(3)]
    await move(core, specs[1].id, -60_000)
    (backlog,) = await core.queue.backlog([LANE])
    assert backlog.jobs == 3
    assert 60.0 <= backlog.oldest_s < 60.0 + TIMEOUT_S

    assert (await take(core)).job_id == specs[1].id
    (backlog,) = await core.queue.backlog([LANE])
    assert backlog.jobs == 2
    assert backlog.oldest_s < TIMEOUT_S


async def test_an_admitted_deferred_or_running_job_is_not_in_the_backlog(core: Core) -> None:
    await admit(core, make_spec())
    deferred = await enqueue(core)
    await move(core, deferred.id, 60_000)
    await enqueue(core)
    await take(core)

    assert await core.queue.backlog([LANE]) == [Backlog(LANE, 0, 0.0)]


async def test_each_lane_has_its_own_backlog(core: Core) -> None:
    await enqueue(core, lane="fast")
    await enqueue(core, lane="slow")
    await enqueue(core, lane="slow")

    found = await core.queue.backlog(["slow", "none", "fast"])
    assert [(each.lane, each.jobs) for each in found] == [("slow", 2), ("none", 0), ("fast", 1)]
