"""A user with the rights that the production guide lists, and no others, is enough for everything."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.store.client import Client, open_client
from shared.store.keys import Keys
from shared.store.wire.rights import acl_rules
from tests.support.controlled_provider import MODEL, ControlledProvider
from tests.support.core import captured_logs
from tests.support.system import ask, running_system, running_worker
from tests.support.valkey import running_valkey


@pytest.fixture(params=[False, True], ids=["arq's own keys", "arq's keys under the prefix"])
async def admin(
    tmp_path: Path, settings: Settings, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Client, Settings]]:
    """Provide a server's administrator, and settings with a restricted user of that server."""
    async with running_valkey(tmp_path / "own-valkey") as valkey, open_client(valkey.url) as client:
        rules = acl_rules(Keys(settings.key_prefix, request.param))
        await client.execute_command("ACL", "SETUSER", "tail", "reset", "on", ">secret", *rules)
        address = "redis://tail:secret@" + valkey.url.rpartition("@")[2]
        yield client, settings.model_copy(update={"redis_url": address, "arq_prefixed": request.param})


async def test_nothing_is_denied_to_a_user_with_the_listed_rights(admin: tuple[Client, Settings]) -> None:
    server, settings = admin
    provider = ControlledProvider(on_call=lambda call: call.end())
    with captured_logs() as logs:
        async with running_system(settings) as system, running_worker(settings, provider):
            client = system.client
            job_id = await system.submit()
            assert (await system.story(job_id)).types[-1] == "completed"
            assert (await client.post("/v1/chat/completions", ask())).status == 200
            response = await client.post("/v1/responses", {"model": MODEL, "input": "Hello?"})
            assert (await client.request("DELETE", f"/v1/responses/{response.json()['id']}")).status == 200
            assert (await client.get("/v1/jobs")).json()["data"]
            assert (await client.get(f"/v1/jobs/{job_id}")).status == 200
            waiting = await system.submit(ask(lane="low"))
            await system.cancel(waiting)
            await system.story(waiting)
            assert (await client.as_("sk-root").get("/v1/dead-letters")).status == 200
            assert (await client.as_("sk-root").get("/metrics")).status == 200

    assert await server.execute_command("ACL", "LOG") == []
    assert logs.named("servers.not_checked") == []
