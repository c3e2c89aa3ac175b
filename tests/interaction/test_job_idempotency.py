"""Make no second job of a request to `/v1/jobs` that is repeated with its idempotency key."""

import asyncio

import pytest

from shared.config.settings import Settings
from shared.model.lanes import DEFAULT_LANE
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.jobs_api import BODY, jobs_in_lane, submit
from tests.support.log_writer import JobSide


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
async def test_a_malformed_idempotency_key_is_refused(client: Client, writing: JobSide, key: str) -> None:
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
