"""One tenant that keeps as many bytes as it may: each dialect says so, and jobs that run end by name."""

import asyncio

import pytest

from gateway.app import running
from shared.config.settings import Settings
from shared.model.errors import StartupError
from tests.interaction.test_tenant_bounds import CALLS, JOBS, bounded, check_refused
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import TIMEOUT_S
from tests.support.system import System, running_worker

STEP, KIB, MIB = 16_384, 1 << 10, 1 << 20
TWO_JOBS = 50_000
"""A job counts with 16 KiB until it has ended, and a tenth is left to those that run."""


async def counted(system: System, tenant: str = "alice") -> int:
    """Return the bytes that this tenant keeps, by its count."""
    field = await system.core.client.hget(f"{system.core.keys.kept_bytes(tenant)}:sizes", "sum")  # type: ignore[misc]
    return int(field or 0)


@pytest.mark.parametrize("path", CALLS)
async def test_a_job_too_many_is_a_429_that_names_the_bound(settings: Settings, path: str) -> None:
    async with bounded(settings, max_bytes_per_tenant=TWO_JOBS) as system:
        jobs = [await system.submit() for _ in range(2)]

        await check_refused(system, path, "too_many_bytes", "max_bytes_per_tenant")

        assert await counted(system) == 2 * STEP
        await system.cancel(jobs[0])
        await system.submit()


async def test_a_refused_idempotency_key_may_be_used_when_there_is_room(settings: Settings) -> None:
    async with bounded(settings, max_bytes_per_tenant=TWO_JOBS) as system:
        jobs = [await system.submit() for _ in range(2)]
        key = {"Idempotency-Key": "k"}
        answers = [await system.client.post(JOBS, CALLS[JOBS], headers=key) for _ in range(2)]
        assert [answer.status for answer in answers] == [429, 429]

        await system.cancel(jobs[0])

        first, again = [await system.client.post(JOBS, CALLS[JOBS], headers=key) for _ in range(2)]
        assert (first.status, first.json()["id"]) == (202, again.json()["id"])
        assert await system.core.client.zcard(system.lane) == 2


async def test_many_that_come_at_once_with_one_key_are_one_job_or_none(settings: Settings) -> None:
    async with bounded(settings, max_bytes_per_tenant=TWO_JOBS) as system:
        await system.submit()
        key = {"Idempotency-Key": "k"}
        answers = await asyncio.gather(*(system.client.post(JOBS, CALLS[JOBS], headers=key) for _ in range(8)))

        assert {answer.status for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert await counted(system) == 2 * STEP


async def test_a_small_request_with_a_large_result_ends_at_the_bound(settings: Settings) -> None:
    """The vectors of a request of some KiB may have megabytes."""
    provider = ControlledProvider(on_call=lambda call: call.embed())
    async with bounded(settings, max_bytes_per_tenant=MIB) as system, running_worker(system.settings, provider):
        body = {"kind": "embeddings", "model": "mock", "input": ["fine"] * 2000, "dimensions": 1024}
        job_id = (await system.client.post(JOBS, body)).json()["id"]
        story = await system.story(job_id)

        assert story.code == "tenant_full"
        assert await counted(system) <= MIB + 2 * 100 * 1024 * 4
        assert not (await system.job(job_id)).dead_letter
        await check_refused(system, "/v1/embeddings", "too_many_bytes", "max_bytes_per_tenant")


async def test_an_answer_that_runs_when_its_tenant_is_full_ends_by_name(settings: Settings) -> None:
    provider = ControlledProvider()
    async with (
        bounded(settings, max_bytes_per_tenant=2 * STEP + 5000) as system,
        running_worker(system.settings, provider),
    ):
        job_id = await system.submit()
        call = await provider.call()
        async with asyncio.timeout(TIMEOUT_S):
            while not call.closed:
                call.say("x" * 2000)
                await system.client.get("/health/live")
        story = await system.story(job_id)

    assert (story.code, story.types[-1]) == ("tenant_full", "failed")
    assert story.deltas


LARGE = [{"role": "user", "content": "x" * (MIB - KIB)}]


async def test_thirty_large_chats_that_are_cancelled_at_once_keep_next_to_nothing(settings: Settings) -> None:
    async with bounded(settings) as system:
        before = (await system.core.client.info("memory"))["used_memory_dataset"]
        jobs = [await system.submit({"model": "mock", "messages": LARGE, "n": 2}) for _ in range(30)]
        assert await counted(system) > 30 * MIB

        await asyncio.gather(*map(system.cancel, jobs))

        assert await counted(system) < 30 * 8 * KIB
        assert (await system.core.client.info("memory"))["used_memory_dataset"] - before < 10 * MIB
        again = await system.client.get("/v1/chat/completions/" + jobs[0].replace("job_", "chatcmpl-"))
        assert (again.status, again.json()["error"]["code"]) == (499, "cancelled")


async def test_a_response_cannot_continue_from_a_job_without_a_request(settings: Settings) -> None:
    async with bounded(settings) as system:
        job_id = await system.submit({"model": "mock", "messages": LARGE})
        await system.cancel(job_id)
        response = job_id.replace("job_", "resp_")
        assert (await system.client.get(f"/v1/responses/{response}")).json()["status"] == "cancelled"
        assert (await system.client.get(f"/v1/responses/{response}/input_items")).json()["data"] == []

        body = {"model": "mock", "input": "Hi", "previous_response_id": response}
        answer = await system.client.post("/v1/responses", body)

        assert (answer.status, answer.json()["error"]["param"]) == (400, "previous_response_id")


async def test_a_cancelled_response_keeps_its_input_for_later_responses(settings: Settings) -> None:
    async with bounded(settings) as system:
        body = {"model": "mock", "input": "x" * (100 * KIB), "background": True}
        response = (await system.client.post("/v1/responses", body)).json()["id"]
        await system.client.post(f"/v1/responses/{response}/cancel", {})

        items = (await system.client.get(f"/v1/responses/{response}/input_items")).json()["data"]

        assert len(items[0]["content"][0]["text"]) == 100 * KIB


async def test_a_bound_over_the_servers_memory_is_refused_at_the_start(settings: Settings) -> None:
    with pytest.raises(StartupError, match="TAILRACE_MAX_BYTES_PER_TENANT"):
        async with running(settings.model_copy(update={"max_bytes_per_tenant": 1 << 60})):
            pass
