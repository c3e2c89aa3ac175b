"""List a tenant's jobs in pages, narrowed by filters."""

import asyncio
from typing import Any

import pytest

from shared.model.jobs import created_ms, new_job_id
from tests.support.client import Client
from tests.support.jobs_api import JOBS, submitted
from tests.support.log_writer import JobSide


async def ids(client: Client, query: str = "") -> list[str]:
    answer = await client.get(JOBS + query)
    assert answer.status == 200, answer.body
    page = answer.json()
    found = [job["id"] for job in page["data"]]
    assert page["object"] == "list"
    assert page["first_id"] == (found[0] if found else None)
    assert page["last_id"] == (found[-1] if found else None)
    return found


async def has_more(client: Client, query: str) -> bool:
    more: bool = (await client.get(JOBS + query)).json()["has_more"]
    return more


async def test_a_tenants_jobs_are_listed_newest_first(client: Client) -> None:
    assert await ids(client) == []
    mine = [await submitted(client) for _ in range(5)]
    await submitted(client.as_("sk-bob"))
    assert await ids(client) == mine[::-1]
    job = (await client.get(JOBS)).json()["data"][0]
    assert {**job, "position": 5} == (await client.get(f"{JOBS}/{mine[-1]}")).json()


async def test_a_list_is_read_in_pages(client: Client) -> None:
    mine = [await submitted(client) for _ in range(5)][::-1]
    assert await ids(client, "?limit=2") == mine[:2]
    assert await has_more(client, "?limit=2")
    assert await ids(client, f"?limit=2&after={mine[1]}") == mine[2:4]
    assert await ids(client, f"?limit=2&after={mine[3]}") == mine[4:]
    assert not await has_more(client, f"?limit=2&after={mine[3]}")
    assert not await has_more(client, "?limit=5")
    assert await ids(client, f"?after={mine[-1]}") == []


async def test_a_list_shows_twenty_jobs_by_default(client: Client) -> None:
    mine = [await submitted(client) for _ in range(21)][::-1]
    assert await ids(client) == mine[:20]
    assert await ids(client, "?limit=100") == mine


async def test_a_list_can_be_narrowed_to_a_status_and_a_kind(client: Client, writing: JobSide) -> None:
    mine = [await submitted(client) for _ in range(6)]
    for job_id in mine[::2]:
        await (await writing.begin(job_id)).complete()
    assert await ids(client, "?status=completed") == mine[::2][::-1]
    assert await ids(client, "?status=queued&kind=chat&limit=2") == mine[1::2][::-1][:2]
    assert await has_more(client, "?status=queued&limit=2")
    assert await ids(client, f"?status=queued&limit=2&after={mine[3]}") == [mine[1]]
    assert await ids(client, "?status=failed") == []


async def test_a_narrowed_list_looks_further_than_its_first_hundred(client: Client, writing: JobSide) -> None:
    oldest = await submitted(client)
    await (await writing.begin(oldest)).complete()
    await asyncio.gather(*(submitted(client) for _ in range(120)))
    assert await ids(client, "?status=completed") == [oldest]


async def test_a_list_that_is_narrowed_much_may_give_empty_pages_on_the_way(
    client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.jobs.LIST_ROUNDS", 1)
    monkeypatch.setattr("gateway.api.jobs.LIST_MOST", 5)
    mine = [await submitted(client) for _ in range(12)]
    await (await writing.begin(mine[0])).complete()
    pages: list[dict[str, Any]] = []
    after = ""
    while not pages or pages[-1]["has_more"]:
        pages.append((await client.get(f"{JOBS}?status=completed&limit=2{after}")).json())
        after = f"&after={pages[-1]['last_id']}"
    assert [[job["id"] for job in page["data"]] for page in pages] == [[], [], [mine[0]]]


async def test_expired_jobs_leave_the_list(client: Client, writing: JobSide) -> None:
    mine = [await submitted(client) for _ in range(3)][::-1]
    await writing.client.delete(writing.keys.job(mine[1]).record)
    listed = writing.keys.tenant_jobs("alice")
    long_gone = new_job_id(created_ms(mine[0]) - 120_000, 1)
    await writing.client.zadd(listed, {long_gone: 0})
    assert await ids(client) == [mine[0], mine[2]]
    # One that is so young may be on its way in: it stays, in case its record comes.
    assert await writing.client.zrange(listed, 0, -1) == [job_id.encode() for job_id in mine[::-1]]
    assert await ids(client, f"?after={mine[1]}") == [mine[2]]


async def test_a_waiting_job_shows_its_position(client: Client, writing: JobSide) -> None:
    async def place(job_id: str) -> int | None:
        position: int | None = (await client.get(f"{JOBS}/{job_id}")).json()["position"]
        return position

    mine = [await submitted(client) for _ in range(3)]
    assert {await place(job_id) for job_id in mine} == {1, 2, 3}
    running = await writing.take()
    assert {await place(job_id) for job_id in mine if job_id != running.job_id} == {1, 2}
    assert await place(running.job_id) is None
    await running.complete()
    assert await place(running.job_id) is None


@pytest.mark.parametrize(
    ("query", "param", "hint"),
    [
        ("status=done", "status", "queued, running"),
        ("status=", "status", "queued, running"),
        ("kind=images", "kind", "one of: chat, embeddings"),
        ("limit=0", "limit", "from 1 to 100"),
        ("limit=101", "limit", "from 1 to 100"),
        ("limit=1000000", "limit", "from 1 to 100"),
        ("limit=000001999999", "limit", "from 1 to 100"),
        ("limit=-1", "limit", "from 1 to 100"),
        ("limit=x", "limit", "from 1 to 100"),
        ("limit=", "limit", "from 1 to 100"),
        ("limit=%C2%B2", "limit", "from 1 to 100"),
        ("after=x", "after", "id of a job"),
        ("after=", "after", "id of a job"),
        ("order=desc", "order", "status, kind, limit, after"),
    ],
)
async def test_a_wrong_filter_is_named(client: Client, query: str, param: str, hint: str) -> None:
    answer = await client.get(f"{JOBS}?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["param"] == param
    assert hint in answer.json()["detail"]
