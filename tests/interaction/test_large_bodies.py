"""Large bodies are read by a process of the gateway's own: in every dialect, and also after it died."""

import asyncio
import os
import signal
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import Client
from tests.support.gateway import Gateway, until
from tests.support.processes import Processes, gone, offspring

TEXT = "x" * 40_000
USER = {"role": "user", "content": TEXT}
# Bodies of over 32 KiB, and the status of the answer.
BODIES: dict[str, tuple[dict[str, Any], int]] = {
    "/v1/jobs": ({"model": "mock", "messages": [USER]}, 202),
    "/tasks/chat/completions": ({"model": "mock", "messages": [USER]}, 202),
    "/v1/chat/completions": ({"model": "mock", "messages": [{"role": "nobody", "content": TEXT}]}, 400),
    "/v1/completions": ({"model": "mock", "prompt": [TEXT, TEXT]}, 400),
    "/v1/embeddings": ({"model": "mock", "input": [TEXT, ""]}, 400),
    "/v1/responses": ({"model": "mock", "background": True, "input": TEXT}, 200),
    "/api/chat": ({"id": "c", "model": "mock", "messages": [{"id": "a", "role": "nobody", "parts": TEXT}]}, 400),
    "/api/chat/c/stop": ({"x": TEXT}, 200),
}


@pytest.mark.parametrize("path", BODIES)
async def test_another_process_reads_a_large_body(gateway: Gateway, client: Client, path: str) -> None:
    body, status = BODIES[path]
    small = {**body, "x": ""} if "x" in body else {}
    await client.post(path, small)
    assert gateway.services.heavy.pid is None

    assert (await client.post(path, body)).status == status
    assert gateway.services.heavy.pid not in (None, os.getpid())


async def test_a_body_is_read_although_the_process_was_killed(gateway: Gateway, client: Client) -> None:
    body, status = BODIES["/v1/jobs"]
    await client.post("/v1/jobs", body)
    first = gateway.services.heavy.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)

    assert (await client.post("/v1/jobs", body)).status == status
    assert gateway.services.heavy.pid not in (None, first)


async def test_bodies_of_two_tenants_are_read_by_turns(gateway: Gateway, client: Client) -> None:
    body, status = BODIES["/v1/jobs"]
    bob, done = client.as_("sk-bob"), []

    async def submit(by: Client, name: str) -> None:
        assert (await by.post("/v1/jobs", body)).status == status
        done.append(name)

    await submit(client, "first")
    pid = gateway.services.heavy.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    theirs = [asyncio.create_task(submit(bob, "bob")) for _ in range(5)]
    await until(lambda: gateway.services.heavy.waiting == 4)
    mine = asyncio.create_task(submit(client, "alice"))
    await until(lambda: gateway.services.heavy.waiting == 5)
    os.kill(pid, signal.SIGCONT)
    await asyncio.gather(mine, *theirs)

    assert done.index("alice") <= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_process_ends_with_its_gateway(settings: Settings, number: signal.Signals) -> None:
    async with Processes(settings.model_copy(update={"drain_s": 0.0})) as processes:
        gateway = await processes.gateway()
        client = Client(int(gateway.url.rpartition(":")[2]))
        assert (await client.post("/v1/jobs", BODIES["/v1/jobs"][0])).status == 202
        children = [pid for pid, line in offspring(gateway.pid).items() if "call_server" in line]
        os.kill(gateway.pid, number)

        assert len(children) == 1
        await gone(children)
