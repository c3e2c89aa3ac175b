"""Nothing stays for ever: once all jobs have ended, each key that they have left expires."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.store.client import Client
from tests.support.controlled_provider import MODEL, Call, ControlledProvider
from tests.support.endless import endless_keys
from tests.support.system import System, ask, running_system, running_worker
from tests.support.valkey import running_valkey

RETENTION_S, DEAD_LETTER_RETENTION_S = 60.0, 120.0
CHAT = {
    "id": "c1",
    "trigger": "submit-message",
    "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
}


@pytest.fixture
async def own(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[System, Settings]]:
    """Start a gateway on a server of its own."""
    async with running_valkey(tmp_path / "own-valkey") as valkey:
        limited = {"redis_url": valkey.url, "retention_s": RETENTION_S, "upstream_max_concurrency": 1}
        changed = settings.model_copy(update={**limited, "dead_letter_retention_s": DEAD_LETTER_RETENTION_S})
        async with running_system(changed) as system:
            yield system, changed


def answer(call: Call) -> None:
    if call.model == "broken":
        call.fail(RuntimeError("a defect of ours"))
    else:
        call.say("Hello")
        call.end()


async def use_everything(system: System) -> None:
    """Store the keys that jobs of all kinds and ends leave."""
    client = system.client
    for body in (ask(), ask(model="broken"), ask(timeout_s=1.0)):
        await system.story(await system.submit(body))
    for _ in range(2):
        assert (await client.post("/v1/jobs", ask(), headers={"Idempotency-Key": "k"})).status in (200, 202)
    await system.cancel(await system.submit(ask(lane="low")))
    assert (await client.post("/v1/chat/completions", ask())).status == 200
    response = await client.post("/v1/responses", {"model": MODEL, "input": "Hello?"})
    assert (await client.request("DELETE", f"/v1/responses/{response.json()['id']}")).status == 200
    assert (await client.post("/api/chat", {**CHAT, "model": MODEL})).status == 200
    root = client.as_("sk-root")
    (letter,) = (await root.get("/v1/dead-letters")).json()["data"]
    await root.post(f"/v1/dead-letters/{letter['id']}/requeue")


async def jobs_left(client: Client, system: System) -> int:
    return int(await client.zcard(system.core.keys.active))


async def test_each_key_expires_after_all_jobs_have_ended(own: tuple[System, Settings]) -> None:
    system, settings = own
    async with running_worker(settings, ControlledProvider(answer)):
        await use_everything(system)
        while await jobs_left(system.core.client, system):
            pass
    client, keys = system.core.client, system.core.keys

    assert await endless_keys(client, keys) == []
    list_left_s = await client.pttl(keys.tenant_jobs("alice")) / 1000
    assert (
        settings.timeout_s + DEAD_LETTER_RETENTION_S < list_left_s < settings.timeout_s + DEAD_LETTER_RETENTION_S + 120
    )
    assert 0 < await client.pttl(keys.dead_letters) / 1000 <= DEAD_LETTER_RETENTION_S


async def test_a_job_list_without_an_expiry_gets_one_that_outlives_its_jobs(
    own: tuple[System, Settings],
) -> None:
    system, settings = own
    client, keys = system.core.client, system.core.keys
    await system.submit()
    await client.persist(keys.tenant_jobs("alice"))
    await system.submit()

    assert await client.pttl(keys.tenant_jobs("alice")) / 1000 > 604_800 + settings.retention_s


async def test_the_list_lives_as_long_as_the_job_that_lives_longest(own: tuple[System, Settings]) -> None:
    system, _ = own
    await system.submit(ask(timeout_s=300))
    await system.submit(ask(timeout_s=1))

    left_s = await system.core.client.pttl(system.core.keys.tenant_jobs("alice")) / 1000
    assert left_s > 290 + DEAD_LETTER_RETENTION_S
