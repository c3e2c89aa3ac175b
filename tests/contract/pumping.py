"""Run a pump, fill its outboxes, and read the log that it writes.

Not here: logs that fail or wait (faulty_logs.py).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.model.events import EventType, encode_data
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.store.executions import Execution
from shared.store.replay_log import ReplayLog
from shared.store.wire.answers import StopReason
from tests.support.core import TIMEOUT_S, Core
from worker.execution.pump import Outbox, Pump

KIB = 1024
ROOMY = 256 * KIB


@asynccontextmanager
async def pumping(log: ReplayLog, max_bytes: int = ROOMY, metrics: Metrics | None = None) -> AsyncIterator[Pump]:
    """Run a pump."""
    pump = Pump(log, SystemClock(), max_bytes=max_bytes, metrics=metrics)
    task = asyncio.create_task(pump.run())
    try:
        yield pump
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def open_outbox(pump: Pump, execution: Execution) -> tuple[Outbox, list[StopReason]]:
    """Open an outbox; return it with the list of its verdicts."""
    verdicts: list[StopReason] = []
    return pump.open(execution, verdicts.append), verdicts


async def put(outbox: Outbox, *texts: str) -> None:
    for text in texts:
        await outbox.put(EventType.DELTA, encode_data({"content": text}))


async def put_and_flush(outbox: Outbox, *texts: str) -> None:
    await put(outbox, *texts)
    await flushed(outbox)


async def flushed(*outboxes: Outbox) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        for outbox in outboxes:
            await outbox.flushed()


async def texts_of(core: Core, execution: Execution) -> list[str]:
    """Return the texts of the job's deltas; their ids must follow each other without a gap."""
    deltas = [event for event in await core.events(execution.job_id) if event.type is EventType.DELTA]
    assert [event.id for event in deltas] == [(execution.epoch, seq) for seq in range(2, len(deltas) + 2)]
    return [event.json()["content"] for event in deltas]
