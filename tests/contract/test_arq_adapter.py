"""Test the arq adapter on a real server: each job reaches the handler once, whichever message it has."""

import asyncio
import logging

import pytest

from shared.model.jobs import new_job_id
from shared.store.client import REDIS_FAULTS
from shared.store.keys import Keys
from shared.store.queue_admission import QueueAdmission
from shared.store.wire.answers import Taken
from shared.store.wire.arq_messages import message_of, serialize
from tests.support.core import RETENTION_S, TIMEOUT_S, Core, make_spec
from worker.dispatch.arq_adapter import ArqAdapter

LANE = "default"


class Handler:
    """Record the calls of the adapter; each run lasts until the test ends it if `held`."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self.began: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self._held = held

    async def run_job(self, job_id: str) -> None:
        """Record the run, and hold it."""
        self.calls.append(("run", job_id))
        if self._held:
            end = asyncio.Event()
            self.began.put_nowait(end)
            await end.wait()

    async def end_unreadable(self, job_id: str) -> None:
        """Record the end."""
        self.calls.append(("unreadable", job_id))


def adapter_of(core: Core, handler: Handler, keys: Keys | None = None) -> ArqAdapter:
    return ArqAdapter(core.client, keys or core.keys, handler, slots=2)


async def admitted(core: Core) -> str:
    spec = make_spec(lane=LANE)
    await core.queue_admission.admit(spec, max_depth=10, retention_s=RETENTION_S)
    return spec.id


async def test_a_job_with_its_message_is_run_and_its_message_stays(core: Core) -> None:
    job_id, handler = await admitted(core), Handler()

    await adapter_of(core, handler).run(Taken(LANE, job_id, 0))

    assert handler.calls == [("run", job_id)]
    assert await core.queue.has_message(job_id)  # the completion steps remove it


async def test_a_job_whose_message_is_lost_is_unreadable(core: Core) -> None:
    job_id, handler = new_job_id(1, 0), Handler()

    await adapter_of(core, handler).run(Taken(LANE, job_id, 0))

    assert handler.calls == [("unreadable", job_id)]


@pytest.mark.parametrize(
    "message",
    [b"", b"garbage", b"[]", serialize(message_of(new_job_id(1, 0))), serialize({"a": ["%s"]})],
    ids=["empty", "garbage", "list", "of another job", "without fields"],
)
async def test_a_job_with_another_message_is_unreadable(core: Core, message: bytes) -> None:
    job_id, handler = await admitted(core), Handler()
    await core.client.set(core.keys.arq.job + job_id, message)

    await adapter_of(core, handler).run(Taken(LANE, job_id, 0))

    assert handler.calls == [("unreadable", job_id)]


async def test_a_refused_command_is_raised_before_the_handler_is_called(core: Core) -> None:
    job_id, handler = await admitted(core), Handler()
    await core.client.lpush(core.keys.arq.retry + job_id, "no number")  # type: ignore[misc]

    with pytest.raises(REDIS_FAULTS):
        await adapter_of(core, handler).run(Taken(LANE, job_id, 0))

    assert handler.calls == []


async def test_the_adapter_reads_arq_keys_under_the_deployments_prefix(core: Core) -> None:
    prefixed, handler = Keys(core.keys.prefix, arq_prefixed=True), Handler()
    spec = make_spec(lane=LANE)
    await QueueAdmission(core.client, prefixed).admit(spec, max_depth=10, retention_s=RETENTION_S)

    await adapter_of(core, handler).run(Taken(LANE, spec.id, 0))
    await adapter_of(core, handler, prefixed).run(Taken(LANE, spec.id, 0))

    assert handler.calls == [("unreadable", spec.id), ("run", spec.id)]


async def test_a_job_that_returns_while_its_former_task_ends_is_not_an_error(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, handler = await admitted(core), Handler(held=True)
    adapter = adapter_of(core, handler)
    async with asyncio.timeout(TIMEOUT_S):
        first = asyncio.create_task(adapter.run(Taken(LANE, job_id, 0)))
        end_first = await handler.began.get()
        second = asyncio.create_task(adapter.run(Taken(LANE, job_id, 0)))
        end_second = await handler.began.get()
        end_first.set()
        await first
        end_second.set()
        await second

    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
