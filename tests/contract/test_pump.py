"""Test the pump on a real log: everything arrives, once and in order, in as few calls as can be."""

import asyncio
import random

from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.store.wire.answers import Written
from tests.contract.faulty_logs import Gate
from tests.contract.pumping import ROOMY, flushed, open_outbox, pumping, put, put_and_flush, texts_of
from tests.support.core import TIMEOUT_S, Core
from worker.execution.pump import Pump


async def test_many_outboxes_are_emptied_in_order_and_completely(core: Core) -> None:
    source = random.Random(7)
    said = {
        await core.running(f"w.{n}"): [f"{source.randrange(10**9)}" * source.choice([1, 3, 200]) for _ in range(60)]
        for n in range(20)
    }
    async with pumping(core.log) as pump:
        outboxes = [(open_outbox(pump, execution)[0], texts) for execution, texts in said.items()]
        await asyncio.gather(*(put_and_flush(outbox, *texts) for outbox, texts in outboxes))

    for execution, texts in said.items():
        assert await texts_of(core, execution) == texts


async def test_everything_put_is_published_too(core: Core) -> None:
    execution = await core.running()
    async with core.listening(core.keys.channel(execution.job_id)) as listener:
        async with pumping(core.log) as pump:
            await put_and_flush(open_outbox(pump, execution)[0], *map(str, range(100)))
        received = b"".join(await listener.received())

    assert received
    assert (await core.log_bytes(execution.job_id)).endswith(received)
    assert received.count(b"event: delta") == 100


async def test_the_terminal_event_follows_what_was_flushed(core: Core) -> None:
    execution = await core.running()
    async with pumping(core.log) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a", "b")

        assert await core.finish(execution, State.COMPLETED, seq=outbox.seq + 1) == Written()


async def test_one_flush_is_one_call_for_all_jobs(own_core: Core) -> None:
    executions = [await own_core.running(f"w.{n}") for n in range(50)]
    pump = Pump(own_core.log, SystemClock(), max_bytes=ROOMY)
    outboxes = [open_outbox(pump, execution)[0] for execution in executions]
    for outbox in outboxes:
        await put(outbox, "a", "b", "c")
    before = await calls(own_core)

    running = asyncio.create_task(pump.run())
    await flushed(*outboxes)
    after = await calls(own_core)
    running.cancel()
    await asyncio.wait([running])

    assert after - before == 1
    assert [str(tail) for tail in await own_core.tails(*(each.job_id for each in executions))] == ["1-4"] * 50


async def calls(core: Core) -> int:
    """Return how many function calls the server has seen."""
    stats = await core.client.info("commandstats")
    return int(stats["cmdstat_fcall"]["calls"])


async def test_texts_that_arrive_during_a_flush_share_the_next_one(core: Core) -> None:
    gate = Gate(core)
    executions = [await core.running(f"w.{n}") for n in range(30)]
    async with pumping(gate) as pump:
        outboxes = [open_outbox(pump, execution)[0] for execution in executions]
        await put(outboxes[0], "first")
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        for outbox in outboxes:
            await put(outbox, "a", "b")
        gate.opened.set()
        await flushed(*outboxes)

    assert gate.batches == [1, 30]
    assert await texts_of(core, executions[0]) == ["first", "a", "b"]
    assert await texts_of(core, executions[29]) == ["a", "b"]


async def test_an_idle_pump_asks_for_nothing(core: Core) -> None:
    gate = Gate(core)
    gate.opened.set()
    execution = await core.running()
    async with pumping(gate) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a")
        for _ in range(20):
            await asyncio.sleep(0)

    assert gate.batches == [1]


async def test_metrics_show_the_waiting_bytes_and_the_duration_of_each_flush(core: Core) -> None:
    metrics, gate = Metrics(), Gate(core)
    async with pumping(gate, metrics=metrics) as pump:
        outboxes = [open_outbox(pump, await core.running(f"w.{number}"))[0] for number in range(2)]
        for outbox in outboxes:
            await put(outbox, "Hel", "lo")
        waiting = sum(outbox.log_bytes for outbox in outboxes)
        async with asyncio.timeout(TIMEOUT_S):
            await gate.asked.wait()
        assert metrics.pump_bytes.of().numbers() == (waiting,)
        assert sum(metrics.append.of().numbers()) == 0
        gate.opened.set()
        await flushed(*outboxes)
        assert metrics.pump_bytes.of().numbers() == (0,)

    *flushes, seconds = metrics.append.of().numbers()
    assert sum(flushes) == len(gate.batches)
    assert 0 < seconds < TIMEOUT_S
