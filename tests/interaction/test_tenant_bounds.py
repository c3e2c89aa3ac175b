"""One tenant at its bounds: each dialect says which one, nothing is stored, and the others notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import Answer
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.core import TIMEOUT_S
from tests.support.system import System, ask, running_system, running_worker

JOBS = "/v1/jobs"
PROMPT = [{"role": "user", "content": "Hi"}]
CALLS: dict[str, dict[str, Any]] = {
    JOBS: ask(),
    "/v1/chat/completions": ask(),
    "/v1/completions": {"model": "mock", "prompt": "Hi"},
    "/v1/responses": {"model": "mock", "input": "Hi"},
    "/v1/embeddings": {"model": "mock", "input": ["Hi"]},
    "/api/chat": {
        "model": "mock",
        "id": "c1",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
        "trigger": "submit-message",
    },
}


@asynccontextmanager
async def bounded(settings: Settings, **bounds: int) -> AsyncIterator[System]:
    """Start a gateway with these bounds for each tenant."""
    async with running_system(settings.model_copy(update=bounds)) as system:
        yield system


def said(answer: Answer, path: str) -> tuple[str | None, str]:
    """Return an error's code, if its dialect has one, and its sentence."""
    if path == JOBS:
        return answer.json()["code"], answer.json()["detail"]
    if path.startswith("/api/"):
        return None, answer.body.decode()
    return answer.json()["error"]["code"], answer.json()["error"]["message"]


def said_to(call: Call) -> str:
    """Return the prompt of a call."""
    content: str = call.request["messages"][0]["content"]
    return content


async def everything(system: System) -> set[bytes]:
    """Return the names of all keys, except those of a worker's first reconciliation, which may end at any time."""
    keys = system.core.keys
    return set(await system.core.client.keys(f"{keys.prefix}:*")) - {
        keys.reconciled.encode(),
        keys.reconciling.encode(),
    }


async def check_refused(system: System, path: str, code: str, setting: str) -> None:
    """Alice is refused in the words of this bound, nothing is stored, and Bob may call."""
    before = await everything(system)

    answer = await system.client.post(path, CALLS[path], headers={"Idempotency-Key": "k"})

    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True), answer.body
    shown, sentence = said(answer, path)
    assert shown in (code, None)
    assert f"({setting})" in sentence
    assert await everything(system) - before <= {f"{system.core.keys.prefix}:tenant:alice:terms".encode()}
    assert (await system.client.as_("sk-bob").post(JOBS, ask())).status == 202


@pytest.mark.parametrize("path", CALLS)
async def test_a_job_too_many_is_a_429_that_names_the_bound(settings: Settings, path: str) -> None:
    async with bounded(settings, max_waiting_per_tenant=2) as system:
        jobs = [await system.submit() for _ in range(2)]

        await check_refused(system, path, "too_many_waiting", "max_waiting_per_tenant")

        await system.cancel(jobs[0])
        await system.submit()


async def test_a_tenants_jobs_beyond_its_slots_wait_while_another_tenants_run(settings: Settings) -> None:
    provider = ControlledProvider()
    async with bounded(settings, max_running_per_tenant=2) as system, running_worker(system.settings, provider):
        mine = [await system.submit(text=str(number)) for number in range(4)]
        await provider.call(1)
        answer = await system.client.as_("sk-bob").post(JOBS, ask("Bob?"))
        theirs = await provider.call(2)
        assert said_to(theirs) == "Bob?"
        theirs.end()

        for number, call in enumerate((0, 1, 3, 4)):
            await provider.call(call)
            assert said_to(provider.calls[call]) == str(number)
            assert sum(not each.closed for each in provider.calls[:2] + provider.calls[3:]) <= 2
            provider.calls[call].end()
            await system.over(mine[number])
        assert (await system.job(answer.json()["id"])).ended
        async with asyncio.timeout(TIMEOUT_S):
            while await system.core.client.hlen(system.core.keys.reservations):  # type: ignore[misc]
                pass
