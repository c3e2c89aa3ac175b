"""Test which viewers count: at several gateways, after a kill, and those that a job has not had yet."""

from shared.model.jobs import VIEWER_LEASE_S
from shared.model.lifecycle import State
from tests.interaction.abandonment.requests import background, native
from tests.interaction.abandonment.routes import RESPONSES, SOON
from tests.interaction.abandonment.states import lease_passes, others_are_given_up, viewed_by
from tests.support.client import Client
from tests.support.gateway import running_gateway
from tests.support.processes import Processes
from tests.support.system import System, running_worker
from tests.support.upstream import Upstream


async def test_two_viewers_at_two_gateways_count_as_two(system: System, upstream: Upstream) -> None:
    async with running_gateway(system.settings) as other, running_worker(system.settings):
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        target = f"/v1/jobs/{job_id}/events"
        one = await system.client.send("GET", target)
        two = await other.client.send("GET", target)
        await viewed_by(system, job_id, 2)
        one.close()
        await viewed_by(system, job_id, 1)
        await others_are_given_up(system)
        assert (await system.job(job_id)).status is State.RUNNING
        two.close()
        await upstream.until(lambda: upstream.closed == 1)
        assert (await system.over(job_id)).outcome["error"]["code"] == "abandoned"


async def test_a_gateway_that_is_killed_takes_its_viewers_along_after_their_lease(
    system: System, upstream: Upstream
) -> None:
    async with Processes(system.settings) as processes, running_worker(system.settings):
        gateway = await processes.gateway()
        job_id = await system.submit(native(tokens=1_000_000, rate=200))
        client = Client(int(gateway.url.rpartition(":")[2]))
        async with client.stream("GET", f"/v1/jobs/{job_id}/events") as reader:
            await viewed_by(system, job_id, 1)
            await gateway.crash()
            await reader.rest()
            assert reader.complete is False
        await others_are_given_up(system)
        assert (await viewed_by(system, job_id, 1))["abandon_at"] is None
        await lease_passes(system, job_id)
        await upstream.until(lambda: upstream.closed == 1)
        assert (await system.over(job_id)).outcome["error"]["code"] == "abandoned"


async def test_every_answer_that_shows_a_job_shows_its_viewers(system: System) -> None:
    key, body = {"Idempotency-Key": "once"}, native()
    job_id = (await system.client.post("/v1/jobs", body, headers=key)).json()["id"]
    await system.core.begin(job_id)
    async with system.client.stream("GET", f"/v1/jobs/{job_id}/events"):
        await viewed_by(system, job_id, 1)
        again = (await system.client.post("/v1/jobs", body, headers=key)).json()
        (listed,) = (await system.client.get("/v1/jobs")).json()["data"]
        cancelled = await system.cancel(job_id)
    assert cancelled["status"] == "cancelling"  # it has no worker
    assert [shown["viewers"] for shown in (again, listed, cancelled)] == [1, 1, 1]


async def test_abandonment_of_a_job_without_viewers_counts_from_submission(system: System, upstream: Upstream) -> None:
    async with running_worker(system.settings):
        job_id = await system.submit({**native(tokens=1_000_000, rate=200), "abandon_after_s": 0.3})
        await upstream.until(lambda: upstream.closed == 1)
        job = await system.over(job_id)
    assert job.outcome["error"]["code"] == "abandoned"
    assert job.abandon_ms - job.created_ms == 300


async def test_the_first_viewer_has_a_lease_to_come(system: System) -> None:
    job = await system.job(await system.submit(native()))
    assert job.abandon_ms - job.created_ms == VIEWER_LEASE_S * 1000
    shown = (await system.client.get(f"/v1/jobs/{job.id}")).json()
    assert (shown["on_disconnect"], shown["viewers"]) == ("cancel", 0)
    assert shown["abandon_at"] > shown["created_at"]


async def test_the_caller_of_an_unread_background_response_is_not_a_viewer(system: System) -> None:
    answer = await system.client.post(RESPONSES, background(), headers=SOON)
    shown = (await system.client.get(f"/v1/jobs/{answer.headers['x-tailrace-job']}")).json()
    assert (shown["viewers"], shown["on_disconnect"]) == (0, "continue")
    assert answer.json()["background"] is True
    assert shown["abandon_at"] is not None
