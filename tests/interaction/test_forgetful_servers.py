"""Servers that lose everything without a restart, or are replaced, on either side: all that can be made good is.

The processes are several gateways and a worker. A server that restarts and forgets its last second is in
test_reconciler.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from shared.model.events import EventType
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store import server_marker
from shared.store.client import open_client
from shared.store.keys import Keys
from tests.support.client import Answer, Client
from tests.support.controlled_provider import MODEL, ControlledProvider
from tests.support.core import TIMEOUT_S, captured_logs
from tests.support.endless import endless_keys
from tests.support.gateway import running_gateway
from tests.support.system import PROMPT, System, running_system, running_worker
from tests.support.valkey import running_valkey
from worker.dispatch import reconciler

Loss = Callable[[EmbeddedValkey, Path], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the servers forty times as often as in the field."""
    monkeypatch.setattr(server_marker, "_CHECK_S", 0.05)
    monkeypatch.setattr(reconciler, "_CHECK_S", 0.05)


async def flush(valkey: EmbeddedValkey, _: Path) -> None:
    """Make the server forget everything; it keeps every connection."""
    async with open_client(valkey.url) as client:
        await client.flushall()


async def replace(valkey: EmbeddedValkey, folder: Path) -> None:
    """Put an empty server at its address."""
    await valkey.stop()
    for file in (folder / "appendonlydir").iterdir():
        file.unlink()
    await valkey.start()


@pytest.fixture(params=[flush, replace])
def lose(request: pytest.FixtureRequest) -> Loss:
    """How a server loses everything."""
    loss: Loss = request.param
    return loss


@pytest.fixture
async def queue_server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Provide the queue's server."""
    async with running_valkey(tmp_path / "queue") as valkey:
        yield valkey


@pytest.fixture
async def job_server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """Provide the jobs' server."""
    async with running_valkey(tmp_path / "jobs") as valkey:
        yield valkey


@pytest.fixture
def apart(settings: Settings, queue_server: EmbeddedValkey, job_server: EmbeddedValkey) -> Settings:
    """Return settings with two servers; the tail check, which would find a lost job too, never runs."""
    urls: dict[str, Any] = {"redis_url": queue_server.url, "stream_redis_url": job_server.url, "tail_check_s": 3600.0}
    return settings.model_copy(update={**urls, "secret": None})


@asynccontextmanager
async def two_gateways(settings: Settings) -> AsyncIterator[tuple[System, Client]]:
    """Start two gateways; the first with everything that a test reads, the second's client."""
    async with running_system(settings) as system, running_gateway(settings) as other:
        yield system, other.client


async def opens(link: str, *clients: Client) -> list[int]:
    """Open a link at each gateway without a key; the statuses."""
    found = []
    for client in clients:
        async with client.as_(None).stream("GET", link) as response:
            found.append(response.status)
    return found


async def link_of(client: Client, job_id: str) -> str:
    """Return a job's signed link."""
    link: str = (await client.get(f"/v1/jobs/{job_id}")).json()["links"]["events"]
    return link


async def test_a_queue_that_lost_all_data_gets_its_jobs_and_its_models_back(
    apart: Settings, queue_server: EmbeddedValkey, tmp_path: Path, lose: Loss
) -> None:
    provider = ControlledProvider(on_call=lambda call: None if call.model == "running" else call.end())
    async with (
        two_gateways(apart) as (system, other),
        running_worker(apart.model_copy(update={"worker_slots": 1}), provider),
    ):
        running = await system.submit(model="running")
        call = await provider.call_for("running")
        call.say("before ")
        await system.until(running, EventType.DELTA)
        waiting = [await system.submit(model=f"waiting-{number}") for number in range(3)]
        link = await link_of(system.client, waiting[0])
        with captured_logs() as logs:
            await lose(queue_server, tmp_path / "queue")
            await logs.wait_for("reconciler.put_back", times=4)
        call.say("and after")
        call.end()
        story = await system.story(running)
        stories = [await system.story(job_id) for job_id in waiting]
        assert await opens(link, system.client, other) == [200, 200]
        async with asyncio.timeout(TIMEOUT_S):
            while (models := (await other.get("/v1/models")).json()["data"]) == []:
                pass

    assert (story.types, story.text) == (["queued", "started", "delta", "delta", "completed"], "before and after")
    assert [each.types for each in stories] == [["queued", "started", "completed"]] * 3
    assert len(provider.calls) == 4
    assert MODEL in [model["id"] for model in models]


async def test_a_queue_that_lost_all_data_gets_lists_and_idempotency_keys_back(
    apart: Settings, queue_server: EmbeddedValkey, tmp_path: Path, lose: Loss
) -> None:
    provider = ControlledProvider(on_call=lambda call: call.end() if call.model == "ended" else None)
    async with two_gateways(apart) as (system, other), running_worker(apart, provider):

        async def ask(model: str, key: str, said: str = "Hello") -> Answer:
            body = {"model": model, "messages": [{"role": "user", "content": said}]}
            return await other.post("/v1/jobs", body, headers={"idempotency-key": key})

        jobs = {model: (await ask(model, f"a key of {model}")).json()["id"] for model in ("ended", "running")}
        assert (await system.story(jobs["ended"])).types[-1] == "completed"
        await provider.call_for("running")
        theirs = (await other.as_("sk-bob").post("/v1/jobs", {"model": "ended", "messages": PROMPT})).json()["id"]
        before = (await other.get("/v1/jobs")).json()["data"]
        await lose(queue_server, tmp_path / "queue")
        async with asyncio.timeout(TIMEOUT_S):
            while (after := (await other.get("/v1/jobs")).json()["data"]) == []:
                pass
        again = [(await ask(model, f"a key of {model}")).json()["id"] for model in jobs]
        conflict = await ask("ended", "a key of ended", "Something else")
        assert [job["id"] for job in (await other.as_("sk-bob").get("/v1/jobs")).json()["data"]] == [theirs]
        async with open_client(queue_server.url) as client:
            endless = await endless_keys(client, Keys(apart.key_prefix))

    assert [job["id"] for job in after] == [job["id"] for job in before]
    assert again == [*jobs.values()]
    assert conflict.status == 422
    assert [name for name in endless if ":idem:" in name or name.endswith(":jobs")] == []
    assert len(provider.calls) == 3


async def test_a_queue_that_lost_all_data_bounds_a_tenants_running_jobs_as_before(
    apart: Settings, queue_server: EmbeddedValkey, tmp_path: Path
) -> None:
    provider = ControlledProvider()
    own = apart.model_copy(update={"worker_slots": 3, "max_running_per_tenant": 1})
    async with running_system(own) as system, running_worker(own, provider):
        await system.submit(model="first")
        call = await provider.call_for("first")
        waits = await system.submit(model="waits")
        with captured_logs() as logs:
            await flush(queue_server, tmp_path)
            await logs.wait_for("reconciler.put_back", times=2)
        bob = system.client.as_("sk-bob")
        await bob.post("/v1/jobs", {"model": "bobs", "messages": PROMPT})
        await provider.call_for("bobs")
        assert [each.model for each in provider.calls] == ["first", "bobs"]
        call.end()
        (await provider.call_for("waits")).end()
        assert (await system.story(waits)).types[-1] == "completed"


async def test_readers_of_jobs_that_are_lost_learn_it_at_once_and_links_stay_good(
    apart: Settings, job_server: EmbeddedValkey, tmp_path: Path, lose: Loss
) -> None:
    provider = ControlledProvider()
    async with two_gateways(apart) as (system, other), running_worker(apart, provider):
        lost = await system.submit()
        call = await provider.call()
        call.say("before")
        async with system.reading(lost) as read, other.stream("GET", await link_of(system.client, lost)) as elsewhere:
            while (await read()).type is not EventType.DELTA:
                pass
            while b"event: delta" not in await elsewhere.frame():
                pass
            await lose(job_server, tmp_path / "jobs")
            async with asyncio.timeout(TIMEOUT_S):
                await elsewhere.rest()
            assert not elsewhere.complete
        assert (await system.client.get(f"/v1/jobs/{lost}")).status == 404
        await call.until_closed()
        async with running_gateway(apart) as new:
            gateways = (system.client, other, new.client)
            jobs = [(await each.post("/v1/jobs", {"model": MODEL, "messages": PROMPT})).json() for each in gateways]
            for job in jobs:
                assert await opens(job["links"]["events"], *gateways) == [200, 200, 200]


async def test_a_job_that_is_made_again_under_its_key_never_continues_with_a_text_that_was_lost(
    apart: Settings, job_server: EmbeddedValkey, tmp_path: Path, lose: Loss
) -> None:
    provider = ControlledProvider()
    async with two_gateways(apart) as (system, _), running_worker(apart, provider):

        async def ask() -> str:
            body = {"model": MODEL, "messages": PROMPT}
            answer = await system.client.post("/v1/jobs", body, headers={"idempotency-key": "a key"})
            job_id: str = answer.json()["id"]
            return job_id

        job_id = await ask()
        lost = await provider.call()
        lost.say("A ", "text ", "that ")
        async with system.reading(job_id) as read:
            while (seen := await read()).type is not EventType.DELTA or seen.json()["content"] != "that ":
                pass
        await lose(job_server, tmp_path / "jobs")
        await lost.until_closed()
        assert await ask() == job_id
        call = await provider.call(1)
        call.say(*("Another " for _ in range(5)))
        call.end()
        assert (await system.story(job_id)).text == 5 * "Another "
        headers = {"last-event-id": str(seen.id)}
        async with system.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
            events = await response.events()

    assert events[0].type is EventType.GAP
    assert "".join(event.json()["content"] for event in events if event.type is EventType.DELTA) == 5 * "Another "


async def test_a_fleet_works_after_its_only_server_lost_all_data(
    settings: Settings, queue_server: EmbeddedValkey, tmp_path: Path, lose: Loss
) -> None:
    own = settings.model_copy(update={"redis_url": queue_server.url, "secret": None})
    provider = ControlledProvider(on_call=lambda call: call.end())
    async with two_gateways(own) as (system, other), running_worker(own, provider):
        before = await link_of(system.client, await system.submit())
        await lose(queue_server, tmp_path / "queue")
        job_id = await system.submit()
        story = await system.story(job_id)
        after = await link_of(system.client, job_id)

        # The former job is gone, and the link still a good one.
        assert await opens(before, system.client, other) == [404, 404]
        assert await opens(after, system.client, other) == [200, 200]
    assert story.types == ["queued", "started", "completed"]
