"""Test `/v1/jobs`: submit, read, list and cancel, and that a repeated request makes no second job."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import Cancelled, DeadlinePassed, ProviderRefused
from shared.model.events import EventType, decode_frame, split_frames
from shared.model.jobs import created_ms, is_job_id, new_job_id
from shared.model.lanes import DEFAULT_LANE
from shared.store.memory_watch import MemoryWatch
from tests.support.client import TIMEOUT_S, Answer, Client
from tests.support.gateway import Gateway, running_gateway
from tests.support.log_writer import PROMPT, JobSide, LogWriter
from tests.support.valkey import running_valkey

JOBS = "/v1/jobs"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}


async def submit(client: Client, body: dict[str, Any] | None = None, key: str | None = None) -> Answer:
    return await client.post(JOBS, body or BODY, headers={} if key is None else {"Idempotency-Key": key})


async def submitted(client: Client, **fields: Any) -> str:
    answer = await submit(client, {**BODY, **fields})
    assert answer.status == 202, answer.body
    job_id: str = answer.json()["id"]
    return job_id


async def jobs_in_lane(writing: JobSide) -> list[str]:
    return [job.decode() for job in await writing.client.zrange(writing.keys.lane(DEFAULT_LANE), 0, -1)]


# Submit and read.


async def test_a_job_is_accepted_with_everything_a_client_needs_to_continue(client: Client) -> None:
    answer = await submit(client, {**BODY, "timeout_s": 5, "metadata": {"colour": "blau 🌊"}})
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    job = answer.json()
    assert is_job_id(job["id"])
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["x-tailrace-job"] == job["id"]
    assert job["links"]["cancel"] == f"/v1/jobs/{job['id']}/cancel"
    assert re.fullmatch(rf"/v1/jobs/{job['id']}/events\?token=[\w-]{{32}}", job["links"]["events"])
    created, deadline = datetime.fromisoformat(job.pop("created_at")), datetime.fromisoformat(job.pop("deadline_at"))
    assert created.tzinfo == UTC
    assert (deadline - created).total_seconds() == 5
    assert {name: value for name, value in job.items() if name not in ("id", "links")} == {
        "object": "job",
        "kind": "chat",
        "status": "queued",
        "model": "scripted",
        "lane": "default",
        "started_at": None,
        "ended_at": None,
        "position": None,
        "on_disconnect": "continue",
        "viewers": 0,
        "abandon_at": None,
        "attempts": [],
        "last_event_id": "0-1",
        "metadata": {"colour": "blau 🌊"},
        "finish_reason": None,
        "usage": None,
        "tokens_saved": None,
        "progress": None,
        "result": None,
        "error": None,
        "events": None,
        "sha256": None,
        "requeued_from": None,
        "requeued_as": None,
    }


async def test_an_accepted_job_is_recorded_and_queued(client: Client, writing: JobSide) -> None:
    """Invariant 1."""
    job_id = await submitted(client, temperature=0.5)
    assert await jobs_in_lane(writing) == [job_id]
    assert await writing.client.zscore(writing.keys.active, job_id) is not None
    (frame,) = split_frames(await writing.logged(job_id))
    assert decode_frame(frame).json() == {"job": job_id, "lane": "default", "position": 1}
    request = await writing.store.request(job_id)
    assert request == {**BODY, "temperature": 0.5}


async def test_fields_that_an_upstream_may_know_reach_it_as_they_are(client: Client, writing: JobSide) -> None:
    fields = {
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
        "guided_json": {"type": "object"},
        "provider": {"order": ["a"]},
        "safety_settings": [],
        "max_tokens": -1,
        "temperature": None,
    }
    job_id = await submitted(client, **fields)
    assert await writing.store.request(job_id) == {**BODY, **fields}


async def test_a_job_that_has_ended_shows_how(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.say("a", "b")
    await writer.complete()
    job = (await client.get(f"{JOBS}/{writer.job_id}")).json()
    end = decode_frame(list(split_frames(await writing.logged(writer.job_id)))[-1]).json()
    assert job["status"] == "completed"
    assert (len(job["attempts"]), job["last_event_id"], job["finish_reason"]) == (1, "1-4", "stop")
    assert (job["usage"], job["events"], job["sha256"]) == (end["usage"], 5, end["sha256"])
    assert job["error"] is None
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]


async def test_a_job_that_ended_badly_shows_why(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.fail(DeadlinePassed("It took too long."))
    job = (await client.get(f"{JOBS}/{writer.job_id}")).json()
    assert job["status"] == "expired"
    assert job["error"] == {
        "type": "job_error",
        "code": "deadline_passed",
        "message": "It took too long.",
        "retryable": False,
    }


async def test_half_a_character_in_a_providers_words_does_no_harm(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.fail(ProviderRefused("cut \ud83c"))
    assert (await client.get(f"{JOBS}/{writer.job_id}")).json()["error"]["message"] == "cut \ufffd"


@pytest.mark.parametrize("job_id", ["job_0000000000000000000000000a", "job_x", "nonsense", "job_" + "l" * 26, "%00"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
async def test_an_unknown_job_is_not_found(client: Client, job_id: str, method: str, rest: str) -> None:
    answer = await client.request(method, f"{JOBS}/{job_id}{rest}")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "job_not_found"


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/cancel")])
async def test_another_tenants_job_looks_like_one_that_never_was(
    client: Client, writing: JobSide, method: str, rest: str
) -> None:
    """Invariant 11."""
    foreign, unknown = await writing.create(tenant="bob"), "job_0000000000000000000000000a"
    answers = [await client.request(method, f"{JOBS}/{job_id}{rest}") for job_id in (foreign, unknown)]
    assert [answer.status for answer in answers] == [404, 404]
    bodies = [answer.body.replace(foreign.encode(), unknown.encode()) for answer in answers]
    assert bodies[0] == bodies[1]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert (await writing.store.load(foreign)).status == "queued"


# Idempotency.


async def test_a_repeated_request_is_the_same_job(client: Client, writing: JobSide) -> None:
    first = await submit(client, key="k")
    again = await submit(client, dict(reversed(BODY.items())), key='"k"')
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["location"] == first.headers["location"]
    assert await jobs_in_lane(writing) == [first.json()["id"]]


async def test_the_same_key_with_another_body_is_refused_and_changes_nothing(client: Client, writing: JobSide) -> None:
    first = (await submit(client, key="k")).json()["id"]
    answer = await submit(client, {**BODY, "temperature": 1}, key="k")
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["param"]) == ("idempotency_conflict", "Idempotency-Key")
    assert await jobs_in_lane(writing) == [first]
    assert (await submit(client, key="k")).json()["id"] == first


async def test_a_key_means_something_to_its_tenant_only(client: Client) -> None:
    alice, bob = await submit(client, key="k"), await submit(client.as_("sk-bob"), {**BODY, "n": 2}, key="k")
    assert (alice.status, bob.status) == (202, 202)
    assert alice.json()["id"] != bob.json()["id"]


async def test_without_a_key_each_request_is_a_job(client: Client) -> None:
    assert (await submit(client)).json()["id"] != (await submit(client)).json()["id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "na\xefve", "a\tb"])
async def test_a_key_that_nobody_can_repeat_is_refused(client: Client, writing: JobSide, key: str) -> None:
    answer = await submit(client, key=key)
    assert (answer.status, answer.json()["param"]) == (400, "Idempotency-Key")
    assert await jobs_in_lane(writing) == []


async def test_fifty_requests_at_once_with_one_key_are_one_job(
    settings: Settings, client: Client, writing: JobSide
) -> None:
    async with running_gateway(settings) as other:
        answers = await asyncio.gather(
            *(submit(client, key="k") for _ in range(25)), *(submit(other.client, key="k") for _ in range(25))
        )
    assert {answer.status for answer in answers} == {202}
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert await jobs_in_lane(writing) == [job_id]
    assert len(await writing.entries(job_id)) == 1


async def test_a_repeated_request_gets_the_job_as_it_now_is(client: Client, writing: JobSide) -> None:
    job_id = (await submit(client, key="k")).json()["id"]
    writer = await writing.begin(job_id)
    await writer.complete()
    again = await submit(client, key="k")
    assert (again.status, again.json()["id"], again.json()["status"]) == (202, job_id, "completed")


async def test_a_repeated_request_whose_record_is_missing_is_recorded_and_queued_under_the_same_id(
    client: Client, writing: JobSide
) -> None:
    """A gateway that died between `admit` and `create`, and a worker that has found no record and forgotten the job."""
    job_id = (await submit(client, key="k")).json()["id"]
    keys = writing.keys.job(job_id)
    await writing.client.delete(keys.record, keys.request, keys.log)
    await writing.queue.done(job_id, DEFAULT_LANE)
    assert (await submit(client, key="k")).json()["id"] == job_id
    assert await jobs_in_lane(writing) == [job_id]
    assert (await writing.store.load(job_id)).status == "queued"


# The list.


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


async def test_a_list_shows_twenty_unless_it_is_told(client: Client) -> None:
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


async def test_jobs_that_are_gone_leave_the_list(client: Client, writing: JobSide) -> None:
    mine = [await submitted(client) for _ in range(3)][::-1]
    await writing.client.delete(writing.keys.job(mine[1]).record)
    listed = writing.keys.tenant_jobs("alice")
    long_gone = new_job_id(created_ms(mine[0]) - 120_000, 1)
    await writing.client.zadd(listed, {long_gone: 0})
    assert await ids(client) == [mine[0], mine[2]]
    # One that is so young may be on its way in: it stays, in case its record comes.
    assert await writing.client.zrange(listed, 0, -1) == [job_id.encode() for job_id in mine[::-1]]
    assert await ids(client, f"?after={mine[1]}") == [mine[2]]


async def test_a_job_that_waits_tells_its_place(client: Client, writing: JobSide) -> None:
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


# Cancel.


async def cancel(client: Client, job_id: str) -> dict[str, Any]:
    answer = await client.post(f"{JOBS}/{job_id}/cancel")
    assert answer.status == 200, answer.body
    job: dict[str, Any] = answer.json()
    return job


@asynccontextmanager
async def orders(writing: JobSide) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Provide a reader of the orders that workers receive."""
    async with writing.client.pubsub() as pubsub:
        await pubsub.subscribe(writing.keys.control)
        await pubsub.get_message(timeout=TIMEOUT_S)  # the confirmation

        async def order() -> str:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=TIMEOUT_S)
            assert message is not None
            return bytes(message["data"]).decode()

        yield order


async def test_a_queued_job_is_cancelled_at_once_and_leaves_the_queue(client: Client, writing: JobSide) -> None:
    job_id = await submitted(client)
    job = await cancel(client, job_id)
    assert (job["status"], job["error"]["code"], job["events"]) == ("cancelled", "cancelled", 2)
    assert await jobs_in_lane(writing) == []
    # Its completion steps wait for a worker.
    _, due = await writing.queue.due_for_check(hold_s=1.0, limit=1)
    assert due == [job_id]
    last = decode_frame(list(split_frames(await writing.logged(job_id)))[-1])
    assert last.type is EventType.CANCELLED


async def test_a_running_job_is_cancelled_through_its_worker_and_shown_when_it_has_ended(
    client: Client, writing: JobSide
) -> None:
    writer = await writing.started()
    await writer.say("a")
    async with orders(writing) as order:
        cancelling = asyncio.create_task(cancel(client, writer.job_id))
        assert await order() == writer.job_id
    assert (await writing.log.append([writer.entry("too late")])) == ["cancelled"]
    await end_as_told(writing, writer)
    job = await cancelling
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    assert job["error"]["message"]


async def end_as_told(writing: JobSide, writer: LogWriter) -> None:
    """End the job at the position of its log, as a worker does on an order to stop."""
    successor = await writing.begin_the_end(writer.job_id)
    await successor.fail(Cancelled.because("cancelled"))


async def test_a_job_whose_worker_does_not_answer_is_shown_as_cancelling(
    client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", 0.05)
    writer = await writing.started()
    assert (await cancel(client, writer.job_id))["status"] == "cancelling"


async def test_cancelling_again_tells_the_worker_again(
    client: Client, writing: JobSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.jobs.CANCEL_WAIT_S", 0.05)
    writer = await writing.started()
    async with orders(writing) as order:
        for _ in range(2):
            await cancel(client, writer.job_id)
            assert await order() == writer.job_id


async def test_cancelling_a_job_that_has_ended_changes_nothing(client: Client, writing: JobSide) -> None:
    writer = await writing.started()
    await writer.complete()
    log = await writing.logged(writer.job_id)
    assert (await cancel(client, writer.job_id))["status"] == "completed"
    assert await writing.logged(writer.job_id) == log
    queued = await submitted(client)
    assert await cancel(client, queued) == await cancel(client, queued)


async def test_a_job_is_cancelled_through_any_gateway(settings: Settings, gateway: Gateway, writing: JobSide) -> None:
    writer = await writing.started()
    async with (
        running_gateway(settings) as other,
        gateway.client.stream("GET", f"{JOBS}/{writer.job_id}/events") as stream,
    ):
        await stream.frames(2)
        async with orders(writing) as order:
            cancelling = asyncio.create_task(cancel(other.client, writer.job_id))
            await order()
        await end_as_told(writing, writer)
        assert (await cancelling)["status"] == "cancelled"
        assert [event.type for event in await stream.events()] == [EventType.CANCELLED]
        assert stream.complete


# Redis away.


async def test_without_redis_a_job_is_refused_with_a_time_to_return(settings: Settings, tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway:
            kept = await submitted(gateway.client)
            await valkey.stop()
            answers = [
                await submit(gateway.client),
                await gateway.client.get(f"{JOBS}/{kept}"),
                await gateway.client.get(JOBS),
                await gateway.client.post(f"{JOBS}/{kept}/cancel"),
            ]
            async with gateway.client.stream("GET", f"{JOBS}/{kept}/events") as events:
                # Any other status would close an EventSource for good.
                assert events.status == 200
                assert (await events.rest()).startswith(b"retry: ")
                assert not events.complete
            await valkey.start()
            for answer in answers:
                assert answer.status == 503
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["retry-after"] == "2"
                assert answer.json()["code"] == "redis_unavailable"
            assert (await gateway.client.get(f"{JOBS}/{kept}")).json()["status"] == "queued"
            assert (await submit(gateway.client)).status == 202


async def test_a_redis_that_is_full_takes_no_job_and_says_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(_: MemoryWatch) -> None:
        """Read later: the gateway does not know yet that the server is full."""

    monkeypatch.setattr(MemoryWatch, "check", not_yet)
    async with running_valkey(tmp_path) as valkey:
        private = settings.model_copy(update={"redis_url": valkey.url})
        async with running_gateway(private) as gateway:
            client = gateway.services.store._client
            await client.config_set("maxmemory", "1")
            answer = await submit(gateway.client)
            await client.config_set("maxmemory", "0")
            assert (answer.status, answer.json()["code"]) == (503, "redis_unavailable")
            assert (await submit(gateway.client)).status == 202


async def test_a_job_that_this_version_can_not_read_looks_like_none(client: Client, writing: JobSide) -> None:
    job_id = await submitted(client)
    await writing.client.hset(writing.keys.job(job_id).record, "v", "99")  # type: ignore[misc]
    for key in ("sk-alice", "sk-bob"):
        answer = await client.as_(key).get(f"{JOBS}/{job_id}")
        assert answer.status == 404
        assert answer.json()["code"] == "job_not_found"
