"""Test workflows: their steps are recorded all or not at all, start in order, and are shown and cancelled together."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from tests.support.client import Answer, Client
from tests.support.controlled_provider import Call, ControlledProvider, controlled_upstream
from tests.support.core import TIMEOUT_S
from tests.support.processes import Processes, Running
from tests.support.system import System, ask, running_system, running_worker

pytestmark = pytest.mark.usefixtures("an_old_server")

REFUSED = ProviderRefused("Not that.", code="insufficient_quota")


@pytest.fixture
async def system(settings: Settings) -> AsyncIterator[System]:
    """Start a gateway without a worker."""
    async with running_system(settings) as opened:
        yield opened


def step(name: str, text: str = "Hello?", **fields: Any) -> dict[str, Any]:
    """Return the body of a step whose model is its name."""
    return ask(text, model=name, **fields)


DIAMOND = {
    "end": step("end", "{{left}} {{right}}", after=["left", "right"]),
    "left": step("left", "left of {{t}}", after={"t": "top"}),
    "right": step("right", "right of {{top}}", after=["top"]),
    "top": step("top"),
}


async def submit(system: System, steps: dict[str, Any]) -> dict[str, Any]:
    answer = await system.client.post("/v1/workflows", {"steps": steps})
    assert answer.status == 202, answer.body
    shown: dict[str, Any] = answer.json()
    assert answer.headers["location"] == shown["links"]["self"]
    return shown


async def read(system: System, workflow: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = (await system.client.get(f"/v1/workflows/{workflow['id']}")).json()
    return shown


async def over(system: System, workflow: dict[str, Any], within_s: float = 4 * TIMEOUT_S) -> dict[str, Any]:
    """Wait until each step has ended; return the workflow."""
    async with (
        asyncio.timeout(within_s),
        system.client.stream("GET", f"/v1/workflows/{workflow['id']}/events") as stream,
    ):
        assert (await stream.rest()).endswith(b"\nid: end\n\n")
    return await read(system, workflow)


def statuses(workflow: dict[str, Any]) -> dict[str, str]:
    return {name: job["status"] for name, job in workflow["steps"].items()}


def answered(call: Call) -> None:
    """Answer a call with the name of its model."""
    call.say(f"<{call.model}>")
    call.end()


async def test_the_steps_of_a_diamond_start_in_order_and_take_the_texts_of_those_before(system: System) -> None:
    provider = ControlledProvider(answered)
    async with running_worker(system.settings, provider):
        workflow = await submit(system, DIAMOND)
        ended = await over(system, workflow)

    assert (ended["status"], set(statuses(ended).values())) == ("completed", {"completed"})
    assert list(workflow["steps"]) == ["top", "left", "right", "end"]
    prompts = {call.model: call.request["messages"][0]["content"] for call in provider.calls}
    assert prompts == {"top": "Hello?", "left": "left of <top>", "right": "right of <top>", "end": "<left> <right>"}
    assert len(provider.calls) == 4


async def test_a_workflow_is_shown_with_the_jobs_of_its_steps(system: System) -> None:
    workflow = await submit(system, DIAMOND)

    shown = await read(system, workflow)

    assert (shown["object"], shown["status"], shown["id"][:3]) == ("workflow", "running", "wf_")
    assert statuses(shown) == {"top": "queued", "left": "waiting", "right": "waiting", "end": "waiting"}
    left = shown["steps"]["left"]
    assert left["after"] == {"t": shown["steps"]["top"]["id"]}
    assert (await system.client.get(left["links"]["self"])).json()["id"] == left["id"]
    await system.core.client.delete(system.core.keys.job(left["id"]).record)
    assert (await read(system, workflow))["steps"]["left"] is None


async def test_the_steps_after_a_failed_one_fail_with_it(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        workflow = await submit(system, DIAMOND)
        (await provider.call_for("top")).end()
        (await provider.call_for("left")).fail(REFUSED)
        (await provider.call_for("right")).end()
        ended = await over(system, workflow)

    assert ended["status"] == "failed"
    assert statuses(ended) == {"top": "completed", "left": "failed", "right": "completed", "end": "failed"}
    assert ended["steps"]["end"]["error"]["code"] == "parent_failed"


async def test_cancelling_ends_each_step_that_has_not_ended(system: System) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        workflow = await submit(system, DIAMOND)
        (await provider.call_for("top")).end()
        left = await provider.call_for("left")
        await provider.call_for("right")
        answers = [await system.client.post(f"/v1/workflows/{workflow['id']}/cancel") for _ in range(2)]
        await left.until_closed()

    for answer in answers:
        assert (answer.status, answer.json()["status"]) == (200, "cancelled")
        expected = {"top": "completed", "left": "cancelled", "right": "cancelled", "end": "cancelled"}
        assert statuses(answer.json()) == expected


# 200 steps.


def called(provider: ControlledProvider, least: int) -> bool:
    return len(provider.calls) >= least


async def test_200_steps_run_once_each_although_both_workers_are_killed(system: System) -> None:
    middle = {f"m{n}": step(f"m{n}", "{{first}}", after=["first"]) for n in range(198)}
    last = step("last", "".join(f"{{{{{name}}}}}" for name in middle), after=list(middle), timeout_s=60)
    steps = {"last": last, **middle, "first": step("first")}
    settings = system.settings.model_copy(update={"lease_s": 1.0, "worker_slots": 20, "max_crashes": 9})
    async with controlled_upstream(answered) as (provider, url), Processes(settings) as processes:
        workers = [await processes.worker(upstream_url=url) for _ in range(2)]
        workflow = await submit(system, steps)
        for worker, calls in zip(workers, (40, 100), strict=True):
            await provider.until(partial(called, provider, calls))
            await worker.crash()
        await processes.worker(upstream_url=url)
        ended = await over(system, workflow, within_s=12 * TIMEOUT_S)

    assert (len(ended["steps"]), set(statuses(ended).values())) == (200, {"completed"})
    # Only a job that a killed worker had begun is called again.
    again = {name: job for name, job in ended["steps"].items() if len(job["attempts"]) > 1}
    assert len(again) <= 2 * 20
    counts = {name: sum(call.model == name for call in provider.calls) for name in steps}
    assert {name for name, count in counts.items() if count > 1} <= set(again)
    final = [call for call in provider.calls if call.model == "last"][-1]
    assert final.request["messages"][0]["content"] == "".join(f"<{name}>" for name in middle)


# All or nothing.


async def queue_is_empty(system: System) -> bool:
    core = system.core
    found = [
        await core.client.zcard(core.keys.active),
        await core.client.hlen(core.keys.reservations),  # type: ignore[misc]
        await core.client.exists(f"{core.keys.kept_bytes('alice')}:sizes"),
        *[await core.client.zcard(core.keys.lane(lane)) for lane in ("high", "default", "low")],
    ]
    return not any(found) and (await system.client.get("/v1/jobs")).json()["data"] == []


async def test_a_workflow_over_a_bound_leaves_nothing_behind(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_waiting_per_tenant": 3})) as system:
        answer = await system.client.post("/v1/workflows", {"steps": DIAMOND})

        assert (answer.status, answer.json()["code"]) == (429, "too_many_waiting")
        assert await queue_is_empty(system)


async def test_a_workflow_that_its_tenant_has_no_bytes_for_leaves_nothing_behind(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_bytes_per_tenant": 1})) as system:
        answer = await system.client.post("/v1/workflows", {"steps": DIAMOND})

        assert (answer.status, answer.json()["code"]) == (429, "too_many_bytes")
        assert await queue_is_empty(system)


def client_of(gateway: Running) -> Client:
    return Client(int(gateway.url.rpartition(":")[2]))


async def interrupted(processes: Processes, step: str) -> None:
    """Submit a workflow to a gateway that is killed at a step."""
    doomed = await processes.doomed_gateway(step)
    with pytest.raises((OSError, EOFError)):
        await client_of(doomed).post("/v1/workflows", {"steps": DIAMOND})
    await doomed.died()


@pytest.mark.parametrize(
    ("step", "recorded"),
    [
        ("shared.store.children:Children.register", 1),
        ("shared.store.workflows:Workflows.open", 4),
    ],
)
async def test_no_step_starts_if_the_gateway_is_killed_before_all_are_recorded(
    system: System, step: str, recorded: int
) -> None:
    provider = ControlledProvider(answered)
    async with Processes(system.settings) as processes, running_worker(system.settings, provider):
        await interrupted(processes, step)
        jobs = (await system.client.get("/v1/jobs")).json()["data"]
        assert [job["status"] for job in jobs] == ["waiting"] * recorded
        # The workflow expires within a minute.
        client, keys = system.core.client, system.core.keys
        (gate,) = [key async for key in client.scan_iter(keys.workflow("*").replace("{*}", "*"))]
        assert 0 < await client.pttl(gate) <= 60_000
        await client.delete(gate)
        for job in jobs:
            await system.check_next(job["id"])
        ends = [await system.over(job["id"], within_s=4 * TIMEOUT_S) for job in jobs]

    assert {end.error_code for end in ends} <= {"parent_gone", "parent_failed"}
    assert ends[-1].error_code == "parent_gone"
    assert "could not be recorded" in ends[-1].outcome["error"]["message"]
    assert provider.calls == []


async def test_a_recorded_workflow_runs_although_its_gateway_was_killed(system: System) -> None:
    provider = ControlledProvider(answered)
    async with Processes(system.settings) as processes, running_worker(system.settings, provider):
        await interrupted(processes, "shared.store.waiting_jobs:WaitingJobs.settle_children")
        jobs = (await system.client.get("/v1/jobs")).json()["data"]
        for job in jobs:
            await system.check_next(job["id"])
        ends = [await system.over(job["id"], within_s=4 * TIMEOUT_S) for job in jobs]

    assert {end.status.value for end in ends} == {"completed"}
    assert len(provider.calls) == 4


# Refusals.


async def refused(system: System, steps: Any, **how: Any) -> Answer:
    answer = await system.client.post("/v1/workflows", {"steps": steps}, **how)
    assert await queue_is_empty(system)
    return answer


async def test_a_cycle_is_a_400_that_names_it(system: System) -> None:
    answer = await refused(system, {"a": step("a", after=["b"]), "b": step("b", after=["a"])})

    assert (answer.status, answer.json()["param"]) == (400, "steps.a.after")
    assert "a after b after a" in answer.json()["detail"]


async def test_a_foreign_job_is_a_404_that_names_step_and_field(system: System) -> None:
    answer = await refused(system, {"a": step("a", after={"old": "job_00000000000000000000000000"})})

    assert (answer.status, answer.json()["param"]) == (404, "steps.a.after.old")


async def test_a_repeated_idempotency_key_is_the_same_workflow(system: System) -> None:
    key = {"idempotency-key": "once"}
    bodies = [{"steps": DIAMOND}, {"steps": DIAMOND}, {"steps": {"top": step("top")}}]
    first, again, other = [await system.client.post("/v1/workflows", body, headers=key) for body in bodies]

    assert (first.status, again.status) == (202, 202)
    assert again.json()["id"] == first.json()["id"] == again.headers["x-tailrace-workflow"]
    assert (other.status, other.json()["code"]) == (422, "idempotency_conflict")
    assert len((await system.client.get("/v1/jobs")).json()["data"]) == 4


async def test_an_idempotency_key_may_be_used_again_after_a_refusal(system: System) -> None:
    key = {"idempotency-key": "once"}
    wrong = await refused(system, {"a": step("a", after={"old": "job_00000000000000000000000000"})}, headers=key)
    assert wrong.status == 404

    assert (await system.client.post("/v1/workflows", {"steps": DIAMOND}, headers=key)).status == 202


async def test_the_workflow_of_another_tenant_looks_like_an_unknown_one(system: System) -> None:
    workflow = await submit(system, DIAMOND)
    bob, known = system.client.as_("sk-bob"), f"/v1/workflows/{workflow['id']}"
    unknown = ["/v1/workflows/wf_00000000000000000000000000", "/v1/workflows/x"]

    answers = [await bob.get(known), await bob.post(f"{known}/cancel"), *[await bob.get(each) for each in unknown]]

    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(404, "workflow_not_found")] * 4
    assert statuses(await read(system, workflow))["top"] == "queued"


async def test_a_step_may_come_after_a_job_that_is_not_in_the_workflow(system: System) -> None:
    provider = ControlledProvider(answered)
    async with running_worker(system.settings, provider):
        old = await system.submit(model="old")
        workflow = await submit(system, {"a": step("a", "{{o}}", after={"o": old}), "b": step("b", after=["a"])})
        assert set(statuses(await over(system, workflow)).values()) == {"completed"}

    assert (await provider.call_for("a")).request["messages"][0]["content"] == "<old>"
