"""Requeue dead letters: each becomes one new job, never two."""

import asyncio
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import encode_data
from shared.store.dead_letters import DeadLetters
from tests.support.client import Client
from tests.support.controlled_provider import ControlledProvider, controlled_upstream
from tests.support.core import captured_logs
from tests.support.dead_letters_api import REFUSED, ROOT, dead_letter, ids, in_lane, problem, requeue, with_dead_letters
from tests.support.processes import Processes
from tests.support.system import System, ask, running_system, running_worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_dead_letters(settings)


# Requeueing.


async def test_a_dead_letter_becomes_a_new_job_of_its_tenant_with_the_same_request(
    system: System, root: Client
) -> None:
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        fields: dict[str, Any] = {
            "lane": "low",
            "timeout_s": 20,
            "metadata": {"colour": "blue"},
            "on_stream_failure": "fail",
        }
        old = await system.submit(ask("Once more?", temperature=0.5, **fields))
        (await provider.call()).fail(REFUSED)
        await system.story(old)
        with captured_logs() as logs:
            shown = await requeue(root, old)
        (await provider.call(1)).end()
        story = await system.story(shown["id"])
        first, second = provider.calls
        job = await system.job(shown["id"])

    assert shown["id"] != old
    assert (shown["status"], shown["tenant"], shown["requeued_from"]) == ("queued", "alice", old)
    assert story.types == ["queued", "started", "completed"]
    assert first.request == second.request
    assert (job.lane, job.model, dict(job.metadata)) == ("low", "mock", {"colour": "blue"})
    assert (job.deadline_ms - job.created_ms, str(job.on_stream_failure)) == (20_000, "fail")
    before = (await system.client.get(f"/v1/jobs/{old}")).json()
    assert (before["status"], before["requeued_as"]) == ("failed", shown["id"])
    (event,) = logs.named("dead_letter.requeued")
    assert (event["job"], event["requeued_as"], event["by"]) == (old, shown["id"], "root")


async def test_requeueing_answers_as_submitting_does(system: System, root: Client) -> None:
    answer = await root.post(f"{ROOT}/{await dead_letter(system)}/requeue")

    job = answer.json()
    assert answer.status == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["x-tailrace-job"] == job["id"]
    assert (await system.client.get(answer.headers["location"])).json()["requeued_from"] == job["requeued_from"]


async def test_the_options_of_a_dialect_are_kept(system: System, root: Client) -> None:
    body = encode_data({"model": "mock", "messages": [{"role": "user", "content": "Hi"}], "tailrace": {"kept": 1}})
    shown = await requeue(root, await dead_letter(system, request=body))

    _, _, kept = await system.core.store.load_with_kept(shown["id"])
    assert kept == {"kept": 1}


async def test_requeueing_again_answers_the_same_job_also_at_once_and_after_its_end(
    system: System, root: Client
) -> None:
    old = await dead_letter(system)

    at_once = await asyncio.gather(*(requeue(root, old) for _ in range(10)))
    (new,) = {job["id"] for job in at_once}
    assert await in_lane(system) == 1
    async with running_worker(system.settings, ControlledProvider(on_call=lambda call: call.end())):
        await system.story(new)
    again = await requeue(root, old)

    assert (again["id"], again["status"]) == (new, "completed")
    assert await in_lane(system) == 0


@pytest.mark.parametrize("step", ["before", "after"])
async def test_a_crash_between_the_new_job_and_its_name_makes_no_second_one(
    system: System, root: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = await dead_letter(system)
    write = DeadLetters.requeued

    async def crashing(self: DeadLetters, job_id: str, as_job_id: str) -> None:
        if step == "after":
            await self._functions.call("requeued", [self._keys.job(job_id).record], as_job_id)
        raise RuntimeError("The gateway dies here.")

    monkeypatch.setattr(DeadLetters, "requeued", crashing)
    assert (await root.post(f"{ROOT}/{old}/requeue")).status == 500
    monkeypatch.setattr(DeadLetters, "requeued", write)
    if step == "after":  # the list is mended when it is read
        assert await ids(root) == []

    new = await requeue(root, old)

    assert await in_lane(system) == 1
    assert (await system.job(old)).requeued_as == new["id"]
    assert (await ids(root), await ids(root, "?requeued=true")) == ([], [old])


async def test_two_gateways_make_one_job(settings: Settings, system: System) -> None:
    old = await dead_letter(system)
    async with Processes(settings) as processes:
        ports = [int((await processes.gateway()).url.rpartition(":")[2]) for _ in range(2)]
        callers = [Client(port, "sk-root") for port in ports * 5]
        jobs = await asyncio.gather(*(requeue(caller, old) for caller in callers))

    assert len({job["id"] for job in jobs}) == 1
    assert await in_lane(system) == 1


async def test_a_full_lane_refuses_and_the_letter_stays_open(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_depth": 1})) as system:
        root = system.client.as_("sk-root")
        old = await dead_letter(system)
        waiting = await system.submit()

        refused = await root.post(f"{ROOT}/{old}/requeue")
        assert problem(refused)[:2] == (429, "queue_full")
        assert await ids(root) == [old]
        assert (await system.job(old)).requeued_as is None

        await system.cancel(waiting)
        assert (await requeue(root, old))["requeued_from"] == old


@pytest.mark.parametrize(("changes", "param"), [({"lane": "gone"}, "lane"), ({"model": "gone"}, "model")])
async def test_the_error_names_a_model_or_lane_that_no_longer_exists(
    settings: Settings, changes: dict[str, str], param: str
) -> None:
    async with running_system(settings.model_copy(update={"models": ("mock",)})) as system:
        root = system.client.as_("sk-root")
        request = encode_data({"messages": [{"role": "user", "content": "Hi"}], "model": changes.get("model", "mock")})
        old = await dead_letter(system, request=request, **changes)

        assert problem(await root.post(f"{ROOT}/{old}/requeue"))[2] == param
        assert await ids(root) == [old]


async def test_the_error_names_a_requeued_job_that_was_deleted_and_makes_no_second_one(
    system: System, root: Client
) -> None:
    old = await dead_letter(system)
    new = (await requeue(root, old))["id"]
    await system.cancel(new)
    await system.core.store.forget(new)

    answer = await root.post(f"{ROOT}/{old}/requeue")

    assert problem(answer)[:2] == (404, "job_not_found")
    assert new in answer.json()["detail"]
    assert await in_lane(system) == 0


async def test_a_requeued_job_that_fails_is_a_dead_letter_of_its_own(system: System, root: Client) -> None:
    old = await dead_letter(system)
    provider = ControlledProvider()
    async with running_worker(system.settings, provider):
        new = (await requeue(root, old))["id"]
        (await provider.call()).fail(REFUSED)
        await system.story(new)

    assert await ids(root) == [new]
    assert await ids(root, "?requeued=true") == [old]


async def test_requeueing_many_reports_the_outcome_of_each(settings: Settings) -> None:
    async with running_system(settings.model_copy(update={"max_depth": 2, "max_waiting_per_tenant": 9})) as system:
        root = system.client.as_("sk-root")
        await dead_letter(system, tenant="bob")
        letters = [await dead_letter(system) for _ in range(3)]

        answer = (await root.post(f"{ROOT}/requeue?tenant=alice")).json()

        reported = {each["id"]: each for each in answer["data"]}
        assert (answer["requeued"], answer["failed"], answer["has_more"]) == (2, 1, False)
        assert reported.keys() == set(letters)
        (refused,) = [each for each in reported.values() if each["error"]]
        assert (refused["error"]["code"], refused["requeued_as"]) == ("queue_full", None)
        for each in reported.values():
            assert (await system.job(each["id"])).requeued_as == each["requeued_as"]
        assert await ids(root, "?tenant=alice") == [refused["id"]]


async def test_many_are_requeued_page_by_page(system: System, root: Client) -> None:
    for _ in range(3):
        await dead_letter(system)

    first = (await root.post(f"{ROOT}/requeue?all=true&limit=2")).json()
    second = (await root.post(f"{ROOT}/requeue?all=true&limit=2&after={first['next']}")).json()

    assert [(page["requeued"], page["has_more"]) for page in (first, second)] == [(2, True), (1, False)]
    assert (await ids(root), await in_lane(system)) == ([], 3)


async def test_a_draining_gateway_requeues_nothing(system: System, root: Client) -> None:
    old = await dead_letter(system)
    system.gateway.services.draining = True

    for target in (f"{ROOT}/{old}/requeue", f"{ROOT}/requeue?all=true"):
        assert problem(await root.post(target))[:2] == (503, "draining")
    assert await ids(root) == [old]


# The whole of it, with real processes.


async def test_a_poison_job_ends_as_a_dead_letter_and_not_in_a_loop(system: System, root: Client) -> None:
    async with controlled_upstream() as (provider, url), Processes(system.settings) as processes:
        job_id = await system.submit()
        for number in range(2):
            worker = await processes.worker(upstream_url=url, lease_s=0.5)
            await provider.call(number)
            await worker.crash()
        await processes.worker(upstream_url=url, lease_s=0.5)
        assert (await system.story(job_id, within_s=20)).code == "poison_job"
        assert len(provider.calls) == 2

        (shown,) = await until_listed(system, root)
        assert (shown["id"], shown["error"]["code"], len(shown["attempts"])) == (job_id, "poison_job", 2)
        new = (await requeue(root, job_id))["id"]
        (await provider.call(2)).end()
        assert (await system.story(new)).types[-1] == "completed"


async def until_listed(system: System, root: Client) -> list[dict[str, Any]]:
    """Return the listed dead letters, once a worker has run its completion steps."""
    async with system.commands() as seen:
        if not (listed := (await root.get(ROOT)).json()["data"]):
            await seen("tailrace_done_")
            listed = (await root.get(ROOT)).json()["data"]
    return list(listed)


async def test_a_gauge_counts_the_open_dead_letters(system: System, root: Client) -> None:
    letters = [await dead_letter(system) for _ in range(3)]
    await requeue(root, letters[0])
    await root.request("DELETE", f"{ROOT}/{letters[1]}")

    lines = (await root.get("/metrics")).body.decode().splitlines()

    assert "tailrace_dead_letters_open 1.0" in lines
