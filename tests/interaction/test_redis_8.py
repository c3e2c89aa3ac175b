"""Redis 8 in the place of Valkey: a job's way, its functions, its refusals and a user with the listed rights."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.config.settings import Settings
from shared.store.client import open_client
from shared.store.keys import Keys
from shared.store.refusals import PassingRefusal, name_of
from shared.store.server_check import check_server
from shared.store.wire.rights import acl_rules
from tests.support.controlled_provider import Call, ControlledProvider
from tests.support.core import Core, open_core
from tests.support.endless import endless_keys
from tests.support.redis_servers import redis_8, running_redis
from tests.support.refusals import PASSING, Refusing
from tests.support.system import ask, running_system, running_worker


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Start a Redis 8 of this test's own."""
    async with running_redis(redis_8(), tmp_path) as running:
        yield running


@pytest.fixture
async def core(url: str) -> AsyncIterator[Core]:
    """Provide the core on that server."""
    async with open_core(url, "own") as opened:
        yield opened


def answer(call: Call) -> None:
    call.say("Hel", "lo")
    call.end()


async def test_jobs_run_on_redis_8_with_the_listed_rights_and_leave_nothing(url: str, settings: Settings) -> None:
    async with open_client(url) as admin:
        rules = acl_rules(Keys(settings.key_prefix))
        await admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rules)
        own = settings.model_copy(update={"redis_url": "redis://app:secret@" + url.rpartition("@")[2]})
        async with running_system(own) as system, running_worker(own, ControlledProvider(answer)):
            story = await system.story(await system.submit())
            assert (story.types[-1], story.text) == ("completed", "Hello")
            chat = await system.client.post("/v1/chat/completions", ask())
            assert chat.json()["choices"][0]["message"]["content"] == "Hello"
            waiting = await system.submit(ask(lane="low"))
            await system.cancel(waiting)
            await system.story(waiting)
            while await admin.zcard(system.core.keys.active):
                pass

        assert await admin.execute_command("ACL", "LOG") == []
        assert await endless_keys(admin, Keys(settings.key_prefix)) == []


async def test_a_redis_8_is_fit(core: Core) -> None:
    await check_server(core.client, core.keys)
    assert str((await core.client.info("server"))["redis_version"]).startswith("8.")


@pytest.mark.parametrize(("word", "refusing"), PASSING.items(), ids=PASSING)
async def test_a_redis_8_that_cannot_serve_now_counts_as_down_until_it_can(
    core: Core, url: str, tmp_path: Path, word: str, refusing: Refusing
) -> None:
    await core.functions.load()
    async with refusing(core.client, url, tmp_path):
        with pytest.raises(PassingRefusal) as refusal:
            await core.queued()

    assert name_of(refusal.value) in (word, "READONLY")
    assert await core.queued()
