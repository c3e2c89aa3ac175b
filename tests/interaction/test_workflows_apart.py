"""Test a workflow whose queue and jobs are on two servers: it starts, streams, fails and is cancelled as on one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.system import System, ask, running_system, running_worker
from tests.support.valkey import running_valkey

STEPS = {"b": ask("after {{a}}", model="b", after=["a"]), "a": ask(model="a")}


@pytest.fixture
async def system(settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    """Start a gateway without a worker, with a server for jobs alone."""
    async with running_valkey(tmp_path / "jobs") as jobs:
        apart = settings.model_copy(update={"stream_redis_url": jobs.url})
        async with running_system(apart) as opened:
            yield opened


def answered(call: Call) -> None:
    """Answer a call with the name of its model."""
    call.say(f"<{call.model}>")
    call.end()


async def submit(system: System, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await system.client.post("/v1/workflows", {"steps": STEPS}, headers=headers or {})
    assert answer.status == 202, answer.body
    shown: dict[str, Any] = answer.json()
    return shown


async def end_of(system: System, workflow: dict[str, Any]) -> dict[str, Any]:
    """Read the workflow's stream to its end; return the workflow."""
    async with system.client.stream("GET", f"/v1/workflows/{workflow['id']}/events") as stream:
        assert (await stream.rest()).endswith(b"\nid: end\n\n")
    shown: dict[str, Any] = (await system.client.get(f"/v1/workflows/{workflow['id']}")).json()
    return shown


async def test_the_steps_of_a_workflow_run_once_each(system: System) -> None:
    provider = ControlledProvider(answered)
    async with running_worker(system.settings, provider):
        workflow = await submit(system, {"idempotency-key": "once"})
        again = await submit(system, {"idempotency-key": "once"})
        ended = await end_of(system, workflow)

    assert (again["id"], ended["status"]) == (workflow["id"], "completed")
    assert [call.request["messages"][0]["content"] for call in provider.calls] == ["Hello?", "after <a>"]


async def test_a_cancelled_workflow_ends_each_step(system: System) -> None:
    workflow = await submit(system)

    answer = await system.client.post(f"/v1/workflows/{workflow['id']}/cancel")

    assert {job["status"] for job in answer.json()["steps"].values()} == {"cancelled"}
    assert (await end_of(system, workflow))["status"] == "cancelled"
