"""Test that a pump bounds what waits for Redis: providers pause, and flushes are shared fairly."""

import asyncio

import pytest

from shared.process.embedded_valkey import EmbeddedValkey
from tests.contract.faulty_logs import Forgetful, Gate
from tests.contract.pumping import KIB, flushed, open_outbox, pumping, put, put_and_flush, texts_of
from tests.support.core import TIMEOUT_S, Core, captured_logs, frozen
from worker.execution import pump as pump_module


async def test_a_frozen_redis_pauses_the_provider_and_nothing_is_lost_or_repeated(
    own_valkey: EmbeddedValkey, own_core: Core
) -> None:
    execution = await own_core.running()
    texts = [f"{n:04}" + "x" * KIB for n in range(64)]
    async with pumping(own_core.log, max_bytes=8 * KIB) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        with captured_logs() as logs, frozen(own_valkey) as thaw:
            putting = asyncio.create_task(put_and_flush(outbox, *texts))
            await logs.wait_for("pump.redis_lost")
            held = outbox.log_bytes
            assert not putting.done()
            assert held < 10 * KIB
            thaw()
            await asyncio.wait_for(putting, TIMEOUT_S)

    assert await texts_of(own_core, execution) == texts
    assert verdicts == []


async def test_a_redis_that_restarts_is_waited_for(own_valkey: EmbeddedValkey, own_core: Core) -> None:
    execution = await own_core.running()
    async with pumping(own_core.log) as pump:
        outbox, _ = open_outbox(pump, execution)
        await put_and_flush(outbox, "a")
        with captured_logs() as logs:
            await own_valkey.stop()
            await put(outbox, "b")
            await logs.wait_for("pump.redis_lost")
            await put(outbox, "c")
            await own_valkey.start()
            await flushed(outbox)

    assert await texts_of(own_core, execution) == ["a", "b", "c"]


async def test_a_redis_without_room_is_waited_for(own_core: Core) -> None:
    execution = await own_core.running()
    async with pumping(own_core.log) as pump:
        outbox, verdicts = open_outbox(pump, execution)
        with captured_logs() as logs:
            await own_core.client.config_set("maxmemory", 1)
            await put(outbox, "a")
            await logs.wait_for("pump.busy")
            await put(outbox, "b")
            await own_core.client.config_set("maxmemory", 0)
            await flushed(outbox)

    assert await texts_of(own_core, execution) == ["a", "b"]
    assert verdicts == []


async def test_one_full_outbox_does_not_hold_up_another(core: Core) -> None:
    gate = Gate(core)
    full, other = await core.running("w.1"), await core.running("w.2")
    async with pumping(gate, max_bytes=4 * KIB) as pump:
        full_box, other_box = open_outbox(pump, full)[0], open_outbox(pump, other)[0]
        putting = asyncio.create_task(put(full_box, "x" * 5 * KIB, "after"))
        await asyncio.wait_for(gate.asked.wait(), TIMEOUT_S)
        await asyncio.wait_for(put(other_box, "a"), TIMEOUT_S)
        assert not putting.done()
        gate.opened.set()
        await asyncio.wait_for(putting, TIMEOUT_S)
        await flushed(full_box, other_box)

    assert await texts_of(core, full) == ["x" * 5 * KIB, "after"]
    assert await texts_of(core, other) == ["a"]


async def test_a_flush_is_bounded_whatever_waits(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "FLUSH_BYTES", 8 * KIB)
    gate = Gate(core)
    executions = [await core.running(f"w.{n}") for n in range(9)]
    async with pumping(gate) as pump:
        outboxes = [open_outbox(pump, execution)[0] for execution in executions]
        for outbox in outboxes:
            await put(outbox, "x" * 3 * KIB)
        gate.opened.set()
        await flushed(*outboxes)

    assert gate.batches == [3, 3, 3]
    assert [await texts_of(core, execution) for execution in executions] == [["x" * 3 * KIB]] * 9


async def test_a_job_with_much_to_send_leaves_the_next_flush_to_others(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "FLUSH_BYTES", 1)
    log = Forgetful(core, 0)
    much, little = await core.running("w.1"), await core.running("w.2")
    async with pumping(log) as pump:
        much_box, little_box = open_outbox(pump, much)[0], open_outbox(pump, little)[0]
        await put(much_box, *["x" * 40 * KIB] * 4)
        await put(little_box, "a")
        await flushed(much_box, little_box)

    assert [[entry.job_id for entry in batch] for batch in log.given] == [
        [much.job_id],
        [little.job_id],
        *[[much.job_id]] * 3,
    ]
