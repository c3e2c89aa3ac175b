"""A neighbour does its worst in ten ways at once, and a tenant beside it loses nothing: invariant 13.

Times are the benchmark's matter. Not here: the bounds themselves, which have tests of their own.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from shared.config.settings import Settings
from shared.model.errors import ProviderRefused
from tests.interaction.test_access import NOBODY
from tests.support.client import Client
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.system import System, ask, read_story, running_system, running_worker

ROUNDS = 5
TEXT = "Exactly this."
Nuisance = Callable[[Client], Awaitable[object]]


def answer(call: Call) -> None:
    """Play the upstream: a model's name selects its behaviour."""
    if call.model == "broken":
        call.fail(ProviderRefused("No money.", code="insufficient_quota"))
    elif call.model != "quiet":
        call.say(*TEXT)
        call.end()


async def bad_requests(client: Client) -> None:
    bodies: tuple[Any, ...] = ({}, {"model": 7}, {**ask(), "timeout_s": -1}, {**ask(), "lane": "none"}, [], "text")
    for body in bodies:
        assert (await client.post("/v1/jobs", body)).status in (400, 422, 403)


async def quiet_jobs(client: Client) -> None:
    await asyncio.gather(*(client.post("/v1/jobs", ask(model="quiet")) for _ in range(10)))


async def floods(client: Client) -> None:
    await asyncio.gather(*(client.post("/v1/jobs", ask()) for _ in range(30)))


async def huge_bodies(client: Client) -> None:
    body = ask(messages=[{"role": "user", "content": "x" * 2_000_000}])
    with suppress(ConnectionError):  # the gateway does not read it all
        assert (await client.post("/v1/jobs", body)).status == 413


async def dead_letters(client: Client) -> None:
    await asyncio.gather(*(client.post("/v1/jobs", ask(model="broken")) for _ in range(10)))


async def references(client: Client) -> None:
    items = [{"type": "item_reference", "id": f"msg_{NOBODY[:-2]}{n}_0"} for n in range(10, 30)]
    await client.post("/v1/responses", {"model": "mock", "input": items})


async def cancels(client: Client) -> None:
    for _ in range(5):
        job = (await client.post("/v1/jobs", ask(model="quiet"))).json()
        await client.post(f"/v1/jobs/{job.get('id', f'job_{NOBODY}')}/cancel")


async def link_abuse(client: Client) -> None:
    for token in ("x", "A" * 32, "=" * 3000):
        assert (await client.as_(None).get(f"/v1/jobs/job_{NOBODY}/events?token={token}")).status == 401


NUISANCES: tuple[Nuisance, ...] = (
    bad_requests,
    quiet_jobs,
    floods,
    huge_bodies,
    dead_letters,
    references,
    cancels,
    link_abuse,
)


@asynccontextmanager
async def nuisances(client: Client) -> AsyncIterator[set[str]]:
    """All nuisances again and again, and the two that hold connections; the names of those that have had a turn."""
    done: set[str] = set()

    async def again_and_again(each: Nuisance) -> None:
        while True:
            await each(client)
            done.add(each.__name__)

    async with AsyncExitStack() as stack:
        for _ in range(5):
            _, dripping = await asyncio.open_connection("127.0.0.1", client.port)
            stack.callback(dripping.close)
            dripping.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
        for _ in range(5):
            job = (await client.post("/v1/jobs", ask(model="quiet"))).json()
            await stack.enter_async_context(client.stream("GET", job["links"]["events"]))  # and no client reads it
        tasks = [asyncio.create_task(again_and_again(each)) for each in NUISANCES]
        try:
            yield done
        finally:
            for task in tasks:
                task.cancel()
            failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in failures} == {asyncio.CancelledError}, failures


async def use_everything(system: System) -> None:
    """Submit, stream, read, and list, as a tenant does: each call succeeds and each stream is exact."""
    client = system.client
    job_id = await system.submit(ask())
    async with asyncio.timeout(20):
        assert (await read_story(client, job_id)).text == TEXT
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["status"] == "completed"
    chat = await client.post("/v1/chat/completions", ask())
    assert (chat.status, chat.json()["choices"][0]["message"]["content"]) == (200, TEXT)
    listed = (await client.get("/v1/jobs")).json()["data"]
    assert job_id in json.dumps(listed)


async def test_a_neighbours_worst_costs_no_request_and_no_token(settings: Settings) -> None:
    shared = settings.model_copy(
        update={
            "worker_slots": 20,
            "first_token_timeout_s": 25.0,
            "max_depth": 200,
            "max_dead_letters": 20,
        }
    )
    async with running_system(shared) as system, running_worker(shared, ControlledProvider(answer)):
        bob = system.client.as_("sk-bob")
        async with nuisances(bob) as done, asyncio.timeout(60):
            rounds = 0
            while rounds < ROUNDS or len(done) < len(NUISANCES):
                await use_everything(system)
                rounds += 1
        assert all(job["status"] == "completed" for job in (await system.client.get("/v1/jobs")).json()["data"])
