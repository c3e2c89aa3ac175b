"""Test jobs that come after others: each starts once, whatever ends its parents, and whichever worker is killed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from shared.model.lifecycle import State
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S
from tests.support.processes import Processes, Running
from tests.support.system import System, ask, running_system, running_worker

pytestmark = pytest.mark.usefixtures("an_old_server")

SHORT_LEASE_S = 2.0
REFUSED = ProviderRefused("Not that.", code="insufficient_quota")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway without a worker."""
    async with running_system(settings) as opened:
        yield opened


def client_of(gateway: Running) -> Client:
    return Client(int(gateway.url.rpartition(":")[2]))


async def status_of(system: System, job_id: str) -> State:
    return (await system.job(job_id)).status


async def settled(system: System, *job_ids: str) -> None:
    """Wait until the queue has no entry of these jobs."""
    async with asyncio.timeout(4 * TIMEOUT_S):
        for job_id in job_ids:
            while await system.queue_keys(job_id):
                pass


async def test_a_child_starts_once_both_of_its_parents_have_completed(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parents = [await system.submit(model=name) for name in ("one", "two")]
        child = await system.submit(model="child", after=dict(zip(("a", "b"), parents, strict=True)))
        assert (await status_of(system, child), "lane" in await system.queue_keys(child)) == (State.WAITING, False)
        (await provider.call_for("one")).end()
        await settled(system, parents[0])
        assert await status_of(system, child) is State.WAITING
        (await provider.call_for("two")).end()
        (await provider.call_for("child")).end()
        story = await system.story(child)
        await settled(system, child)

    assert story.types == ["queued", "started", "completed"]
    assert [call.model for call in provider.calls] == ["one", "two", "child"]


async def test_a_child_whose_parent_has_completed_before_starts_at_once(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        (await provider.call_for("parent")).end()
        await settled(system, parent)
        child = await system.submit(model="child", after={"a": parent})
        (await provider.call_for("child")).end()
        assert (await system.story(child)).types[-1] == "completed"


async def test_a_waiting_job_is_shown_with_its_parents_and_without_a_position(system: System) -> None:
    parent = await system.submit()
    child = await system.submit(after={"a": parent})

    shown = (await system.client.get(f"/v1/jobs/{child}")).json()

    assert (shown["status"], shown["after"], shown["position"]) == ("waiting", {"a": parent}, None)
    assert (shown["progress"]["percent"], shown["released_at"]) == (0, None)
    listed = (await system.client.get("/v1/jobs?status=waiting")).json()["data"]
    assert [job["id"] for job in listed] == [child]


@pytest.mark.parametrize("when", ["before its submit", "after its submit"])
async def test_a_child_fails_with_its_parent_and_so_does_the_childs_child(system: System, when: str) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        if when == "before its submit":
            (await provider.call_for("parent")).fail(REFUSED)
            await settled(system, parent)
        child = await system.submit(model="child", after={"outline": parent})
        grandchild = await system.submit(model="grandchild", after={"text": child})
        if when == "after its submit":
            (await provider.call_for("parent")).fail(REFUSED)
        ends = [(await system.story(job_id)).end for job_id in (child, grandchild)]
        await settled(system, parent, child, grandchild)

    assert [end["error"]["code"] for end in ends] == ["parent_failed"] * 2
    assert ends[0]["error"]["message"] == f"The job {parent} (outline) did not complete."
    assert len(provider.calls) == 1
    letters = await system.core.dead_letters.listed(None, 10, only_open=True)
    assert [each.job_id for each in letters] == [parent]


async def test_a_child_that_runs_on_a_parents_failure_starts_after_it(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        child = await system.submit(model="child", after={"a": parent}, on_parent_failure="run")
        await system.cancel(parent)
        (await provider.call_for("child")).end()
        assert (await system.story(child)).types[-1] == "completed"


async def test_a_cancelled_child_ends_at_once_and_its_parent_continues(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        child = await system.submit(model="child", after={"a": parent})
        assert (await system.cancel(child))["status"] == "cancelled"
        await settled(system, child)
        (await provider.call_for("parent")).end()
        await settled(system, parent)

    assert (await system.story(parent)).types[-1] == "completed"
    assert (await system.story(child)).types == ["queued", "cancelled"]
    assert len(provider.calls) == 1


async def test_the_time_out_of_a_child_counts_from_its_release(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        child = await system.submit(model="child", after={"a": parent}, timeout_s=60)
        assert (await system.job(child)).timeout_s > 60 * 60 * 24
        (await provider.call_for("parent")).end()
        await provider.call_for("child")

        released = await system.job(child)
        assert (released.timeout_s, released.released_ms > released.created_ms) == (60, True)


# Refusals.


@pytest.mark.parametrize("parent", ["job_00000000000000000000000000", "a job", ""])
async def test_an_unknown_parent_is_a_404_that_names_it(system: System, parent: str) -> None:
    answer = await system.client.post(
        "/v1/jobs", {"model": "m", "messages": [{"role": "user", "content": "x"}], "after": {"outline": parent}}
    )

    assert (answer.status, answer.json()["param"]) == (404, "after.outline")
    assert await system.core.client.zcard(system.core.keys.active) == 0


async def test_a_parent_of_another_tenant_looks_like_an_unknown_one(system: System) -> None:
    parent = await system.submit()
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    foreign = await system.client.as_("sk-bob").post("/v1/jobs", {**body, "after": {"a": parent}})

    assert (foreign.status, foreign.json()["code"]) == (404, "job_not_found")


# Other ends of a waiting job, and its place in the queue.


async def test_a_waiting_job_expires_after_its_week(system: System) -> None:
    child = await system.submit(after={"a": await system.submit(model="parent")})
    await system.write(child, deadline=1)
    await system.check_next(child)
    async with running_worker(system.settings, ControlledProvider()):
        story = await system.story(child)
        await settled(system, child)

    assert (story.types, story.code) == (["queued", "expired"], "deadline_passed")


async def test_a_waiting_job_without_viewers_is_abandoned(system: System) -> None:
    child = await system.submit(after={"a": await system.submit(model="parent")}, abandon_after_s=60, max_tokens=50)
    await system.write(child, abandon_at=1)
    await system.check_next(child)
    async with running_worker(system.settings, ControlledProvider()):
        job = await system.over(child)
        await settled(system, child)

    assert (job.error_code, job.outcome["tokens_saved"] > 0) == ("abandoned", True)


async def test_a_child_whose_parent_was_deleted_fails_clearly(system: System) -> None:
    parent = await system.submit(model="parent")
    child = await system.submit(after={"outline": parent})
    await system.core.client.delete(system.core.keys.job(parent).record)
    await system.check_next(child)
    async with running_worker(system.settings, ControlledProvider()):
        story = await system.story(child)

    assert story.code == "parent_gone"
    assert story.end["error"]["message"] == f"The job {parent} (outline) is not stored any more."


async def test_a_waiting_job_that_the_queue_has_lost_still_waits_and_starts_after_its_parent(system: System) -> None:
    provider = ControlledProvider()
    parent = await system.submit(model="parent")
    child = await system.submit(model="child", after={"a": parent})
    for job_id in (parent, child):
        await system.lose(job_id)
        await system.core.client.zrem(system.core.keys.active, job_id)

    async with running_worker(system.settings, provider):
        call = await provider.call_for("parent")
        async with asyncio.timeout(2 * TIMEOUT_S):
            while await system.queue_keys(child) != ["active", "message"]:
                pass
        call.end()
        (await provider.call_for("child")).end()
        await settled(system, parent, child)

    assert (await system.story(child)).types == ["queued", "started", "completed"]


async def test_a_repeated_idempotency_key_is_the_same_waiting_job(system: System) -> None:
    parent = await system.submit()
    answers = [
        await system.client.post("/v1/jobs", ask(after={"a": parent}), headers={"idempotency-key": "once"})
        for _ in range(2)
    ]

    assert [answer.json()["status"] for answer in answers] == ["waiting"] * 2
    assert len({answer.json()["id"] for answer in answers}) == 1


# Lost workers and lost gateways.


@pytest.mark.parametrize(
    "step",
    [
        "shared.store.queue_admission:QueueAdmission.admit",
        "shared.store.jobs:JobRecords.create",
        "shared.store.waiting_jobs:WaitingJobs.advance",
        "shared.store.children:Children.register",
        "shared.store.children:Children.settle",
        "shared.store.queue:Queue.restore",
    ],
)
@pytest.mark.parametrize("is_repeated", [True, False])
async def test_a_child_starts_once_although_its_gateway_is_killed_at_any_step(
    system: System, step: str, is_repeated: bool
) -> None:
    provider, headers = ControlledProvider(), {"idempotency-key": "once"}
    async with Processes(system.settings) as processes, running_worker(system.settings, provider):
        parent = await system.submit(model="parent")
        (await provider.call_for("parent")).end()
        await settled(system, parent)
        doomed = await processes.doomed_gateway(step)
        body = ask(model="child", after={"a": parent})
        with pytest.raises((OSError, EOFError)):
            await client_of(doomed).post("/v1/jobs", body, headers=headers)
        await doomed.died()
        if is_repeated:
            assert (await system.client.post("/v1/jobs", body, headers=headers)).status == 202
        listed = (await system.client.get("/v1/jobs")).json()["data"]
        children = [job["id"] for job in listed if job["model"] == "child"]
        for child in children:
            # A worker looks after a new job that its gateway has left after 5 s.
            await system.due(child)
            await system.check_next(child)
            (await provider.call_for("child")).end()
        await settled(system, *children)

    recorded = step.rpartition(".")[2] not in ("admit", "create")
    assert len(children) == (is_repeated or recorded)
    assert [call.model for call in provider.calls] == ["parent", *["child"] * len(children)]


@pytest.mark.parametrize(
    "step",
    [
        "worker.execution.completion:CompletionSteps.run",
        "shared.store.children:Children.listed",
        "shared.store.children:Children.settle",
        "shared.store.queue:Queue.restore",
        "shared.store.children:Children.unlist",
        "shared.store.queue:Queue.done",
    ],
)
async def test_a_child_starts_once_although_its_parents_worker_is_killed_at_any_step(system: System, step: str) -> None:
    settings = system.settings.model_copy(update={"lease_s": SHORT_LEASE_S})
    provider = ControlledProvider()
    async with controlled_upstream() as (upstream, url), Processes(settings) as processes:
        # With one slot: the worker must not begin the released child itself before it dies.
        doomed = await processes.doomed_worker(step, upstream_url=url, worker_slots=1)
        # The reconciler of a worker may restore entries at its start, which is a step of the table, too.
        await system.forgo_reconciling()
        parent = await system.submit(model="parent")
        child = await system.submit(model="child", after={"a": parent})
        (await upstream.call()).end()
        await doomed.died()
        async with running_worker(settings, provider):
            (await provider.call_for("child")).end()
            await settled(system, parent, child)

    assert [call.model for call in (*upstream.calls, *provider.calls)] == ["parent", "child"]
    assert (await system.story(child)).types == ["queued", "started", "completed"]
