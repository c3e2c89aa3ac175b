"""Test arq's `run_job` with a stand-in dispatcher: its treatment of two tasks of one job."""

import asyncio
import logging
from typing import Any, cast

import pytest
from arq.connections import ArqRedis

from shared.store.keys import ARQ_JOB
from shared.store.queue import deserialize, serialize
from tests.support.core import RETENTION_S, Core, make_spec
from worker.dispatch.dispatcher import Dispatcher, LaneWorker


class Held:
    """Run each job until the test ends it."""

    def __init__(self) -> None:
        self.began: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def run_job(self, *_: Any) -> None:
        """Run until the test sets the event."""
        end = asyncio.Event()
        self.began.put_nowait(end)
        await end.wait()


async def test_a_job_that_comes_back_while_its_former_task_ends_is_no_error(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    spec, held = make_spec(), Held()
    await core.queue.admit(spec, max_depth=10, retention_s=RETENTION_S)
    assert await core.client.exists(ARQ_JOB + spec.id)
    pool = ArqRedis(connection_pool=core.client.connection_pool, job_serializer=serialize, job_deserializer=deserialize)
    worker = LaneWorker(spec.lane, core.keys.lane(spec.lane), pool, cast(Dispatcher, held), 2)
    async with asyncio.timeout(5):
        first = asyncio.create_task(worker.run_job(spec.id, 0))
        end_first = await held.began.get()
        second = asyncio.create_task(worker.run_job(spec.id, 0))
        end_second = await held.began.get()
        end_first.set()
        await first
        end_second.set()
        await second

    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
