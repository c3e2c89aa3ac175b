"""A Valkey that fills up: new jobs are refused in every dialect, running ones end exactly, then it serves again."""

from pathlib import Path

from shared.config.settings import Settings
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store.memory_watch import counted
from tests.interaction.test_tenant_bounds import CALLS
from tests.support.controlled_provider import ControlledProvider
from tests.support.core import captured_logs
from tests.support.system import System, ask, running_system, running_worker

CEILING = 32 * 1024 * 1024


async def fill(system: System) -> None:
    """Use nine tenths and a little more of the server's memory."""
    number = 0
    while counted(await system.core.client.info("memory")) < CEILING * 92 // 100:
        await system.core.client.set(f"filler:{number}", b"x" * 64 * 1024)
        number += 1


async def stored(system: System) -> set[bytes]:
    """Return the keys of jobs, queue messages and conversations."""
    client = system.core.client
    patterns = ("*:record", "*:request", "arq:job:*", "*:conversation")
    return {key for pattern in patterns for key in await client.keys(pattern)}


async def test_a_nearly_full_server_refuses_new_jobs_and_ends_running_ones(settings: Settings, tmp_path: Path) -> None:
    provider, valkey = ControlledProvider(), EmbeddedValkey(tmp_path / "small", max_memory=CEILING)
    await valkey.start()
    try:
        own = settings.model_copy(update={"redis_url": valkey.url})
        async with running_system(own) as system, running_worker(own, provider):
            running = await system.submit()
            call = await provider.call()
            call.say("one ")
            with captured_logs() as logs:
                await fill(system)
                await logs.wait_for("memory.full")
            before = await stored(system)

            for path, body in CALLS.items():
                answer = await system.client.post(path, body)
                assert (answer.status, answer.headers["retry-after"]) == (503, "30"), answer.body
                assert b"nearly full" in answer.body
            assert await stored(system) == before

            call.say(*(f"{number} " for number in range(1_000)))
            call.end()
            story = await system.story(running)
            assert story.text == "one " + "".join(f"{number} " for number in range(1_000))
            assert story.types[-1] == "completed"

            await system.core.client.delete(*(await system.core.client.keys("filler:*")))
            assert (await system.client.post("/v1/jobs", ask())).status == 202
    finally:
        await valkey.stop()
