"""Test the fleet's metrics in Redis: present while their process reports them, and never older than a former report."""

import asyncio

import pytest
from structlog.testing import capture_logs

from shared.model.bounds import PROCESSES
from shared.model.metrics import Metrics, Samples, decode_samples, encode_samples
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey
from shared.store import fleet_metrics as fleet_module
from shared.store.fleet_metrics import KEEP_S, Fleet, Publisher
from tests.support.core import TIMEOUT_S, Core, captured_logs, frozen


def publisher_of(core: Core, metrics: Metrics) -> Publisher:
    return Publisher(Fleet(core.client, core.keys), metrics, SystemClock(), "worker")


async def reported(core: Core) -> dict[str, bytes]:
    return await Fleet(core.client, core.keys).published()


async def test_a_fleet_starts_without_published_metrics(core: Core) -> None:
    assert await reported(core) == {}


async def test_other_processes_read_the_last_published_metrics(core: Core) -> None:
    metrics = Metrics()
    publisher, count = publisher_of(core, metrics), metrics.executions.of()
    for _ in range(2):
        count.add()
        await publisher.publish()

    (raw,) = (await reported(core)).values()
    assert decode_samples(raw, metrics.families)["tailrace_executions_total"][0].numbers == (2.0,)


async def test_two_processes_never_share_a_name_though_host_and_process_id_are_the_same(core: Core) -> None:
    one, other = (publisher_of(core, Metrics()) for _ in range(2))
    await one.publish()
    await other.publish()

    assert set(await reported(core)) == {one.process, other.process}
    assert one.process.startswith("worker-")


async def test_a_silent_process_expires(core: Core) -> None:
    await Fleet(core.client, core.keys, keep_s=0.05).publish("worker-dead", {})
    await Fleet(core.client, core.keys).publish("worker-alive", {})
    async with asyncio.timeout(TIMEOUT_S):
        while "worker-dead" in await reported(core):
            pass

    assert set(await reported(core)) == {"worker-alive"}
    assert 0 < await core.client.pttl(core.keys.metrics("worker-alive")) <= KEEP_S * 1000


async def test_publishing_removes_dead_processes_from_the_index(core: Core) -> None:
    await Fleet(core.client, core.keys, keep_s=0.001).publish("worker-dead", {})
    async with asyncio.timeout(TIMEOUT_S):
        while await core.client.zcard(core.keys.processes) != 1 or await reported(core) != {"worker-alive": b"{}"}:
            await Fleet(core.client, core.keys).publish("worker-alive", {})

    assert await core.client.zrange(core.keys.processes, 0, -1) == [b"worker-alive"]


async def test_a_read_is_bounded_to_the_processes_with_the_latest_expiry(core: Core) -> None:
    fleet = Fleet(core.client, core.keys)
    for number in range(PROCESSES):
        await Fleet(core.client, core.keys, keep_s=60).publish(f"worker-{number}", {})
    await fleet.publish("worker-too-many", {})

    found = await fleet.published()
    assert len(found) == PROCESSES
    assert "worker-too-many" not in found


async def test_a_redis_without_room_still_takes_metrics(own_core: Core) -> None:
    await own_core.functions.load()
    await own_core.client.config_set("maxmemory", 1)
    await publisher_of(own_core, Metrics()).publish()

    assert len(await reported(own_core)) == 1


async def test_publishing_continues_after_an_outage(own_core: Core, own_valkey: EmbeddedValkey) -> None:
    metrics = Metrics()
    with pytest.MonkeyPatch.context() as patch, captured_logs() as logs:
        patch.setattr(fleet_module, "PERIOD_S", 0.01)
        await own_valkey.stop()
        task = asyncio.create_task(publisher_of(own_core, metrics).run())
        await logs.wait_for("metrics.redis_lost")
        await own_valkey.start()
        await logs.wait_for("metrics.redis_back")
        task.cancel()
        await asyncio.wait([task])

    assert len(await reported(own_core)) == 1


async def test_the_last_metrics_of_a_process_are_published(core: Core) -> None:
    await publisher_of(core, Metrics()).last_words()

    assert len(await reported(core)) == 1


async def test_a_process_does_not_wait_for_redis_to_publish_at_its_end(
    own_core: Core, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_LAST_WORDS_S", 0.05)
    await own_core.functions.load()
    with capture_logs() as logs, frozen(own_valkey):
        async with asyncio.timeout(TIMEOUT_S):
            await publisher_of(own_core, Metrics()).last_words()

    assert logs == []


class Slow(Fleet):
    """Delay the first samples of a fleet until the test sets `let`."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.client, core.keys)
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def publish(self, process: str, samples: Samples) -> None:
        if not self.asked.is_set():
            self.asked.set()
            await self.let.wait()
        await super().publish(process, samples)


async def test_an_earlier_count_is_never_published_after_a_later_one(core: Core) -> None:
    fleet, metrics = Slow(core), Metrics()
    publisher, count = Publisher(fleet, metrics, SystemClock(), "worker"), metrics.executions.of()
    earlier = asyncio.create_task(publisher.publish())
    await fleet.asked.wait()
    count.add()
    later = asyncio.create_task(publisher.publish())
    await asyncio.sleep(0)  # its turn
    fleet.let.set()
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(earlier, later)

    assert await reported(core) == {publisher.process: encode_samples(publisher.samples())}
