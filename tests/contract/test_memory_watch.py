"""Test the memory watch: nothing is refused below nine tenths, everything above, and nothing once memory is free."""

import asyncio

import pytest

from shared.model.errors import MemoryFull
from shared.model.metrics import Metrics
from shared.store.memory_watch import MemoryWatch, counted
from tests.support.core import Core, captured_logs


async def limit_to(core: Core, share: float) -> None:
    """Let the server be full to this share."""
    await core.client.config_set("maxmemory", int(counted(await core.client.info("memory")) / share))


async def test_a_server_with_a_tenth_left_refuses_new_jobs_and_counts_them(own_core: Core) -> None:
    metrics = Metrics()
    watch = MemoryWatch({"jobs": own_core.client}, metrics)
    await limit_to(own_core, 0.5)
    await watch.check()
    await watch.refuse_if_full()

    await limit_to(own_core, 0.95)
    await watch.check()

    with pytest.raises(MemoryFull, match="nearly full"):
        await watch.refuse_if_full()
    assert metrics.refused.of("memory").value == 1


def test_the_buffers_of_the_aof_and_of_replicas_do_not_count_as_the_server_does_not_count_them() -> None:
    assert counted({"used_memory": 1_000, "mem_not_counted_for_evict": 300}) == 700
    assert counted({"used_memory": 1_000}) == 1_000


async def test_requests_are_accepted_once_memory_is_free(own_core: Core) -> None:
    watch = MemoryWatch({"jobs": own_core.client}, Metrics())
    await limit_to(own_core, 0.95)
    await watch.check()
    await own_core.client.config_set("maxmemory", 0)

    await watch.refuse_if_full()


async def test_it_is_read_by_itself_and_logged_once(own_core: Core) -> None:
    watch = MemoryWatch({"jobs": own_core.client}, Metrics(), check_s=0.01)
    with captured_logs() as logs:
        running = asyncio.create_task(watch.run())
        await limit_to(own_core, 0.95)
        await logs.wait_for("memory.full")
        await own_core.client.config_set("maxmemory", 0)
        await logs.wait_for("memory.free_again")
        running.cancel()

    assert [line["sides"] for line in logs.named("memory.full")] == [["jobs"]]
