"""Test checkpoints on the real server: their owner, and the bytes that they count for a tenant."""

import pytest

from shared.model.lifecycle import State
from shared.store.checkpoints import Checkpoints
from shared.store.wire.answers import StopReason, Written
from tests.support.core import Core


@pytest.fixture
def checkpoints(core: Core) -> Checkpoints:
    """Return the checkpoints of this test's jobs."""
    return Checkpoints(core.client, core.keys)


async def test_the_last_checkpoint_is_kept(core: Core, checkpoints: Checkpoints) -> None:
    execution = await core.running()
    assert await checkpoints.load(execution.job_id) is None
    assert await checkpoints.save(execution, b"one") == Written()
    assert await checkpoints.save(execution, b"another") == Written()

    assert await checkpoints.load(execution.job_id) == b"another"


async def test_an_execution_that_has_lost_the_job_stores_nothing(core: Core, checkpoints: Checkpoints) -> None:
    former = await core.running()
    await checkpoints.save(former, b"its own")
    await core.take_over(former.job_id)

    assert await checkpoints.save(former, b"late") is StopReason.FENCED
    assert await checkpoints.load(former.job_id) == b"its own"


async def test_nothing_is_stored_for_a_job_that_is_cancelled_or_has_ended(core: Core, checkpoints: Checkpoints) -> None:
    cancelled, ended = await core.running(), await core.running()
    await core.cancel(cancelled.job_id)
    await core.finish(ended, State.COMPLETED)

    assert await checkpoints.save(cancelled, b"late") is StopReason.CANCELLED
    assert await checkpoints.save(ended, b"late") is StopReason.ENDED
    assert [await checkpoints.load(each.job_id) for each in (cancelled, ended)] == [None, None]


async def test_a_checkpoint_counts_for_the_tenant_and_is_removed_by_an_end_without_a_result(
    core: Core, checkpoints: Checkpoints
) -> None:
    execution = await core.running()
    keys = core.keys.job(execution.job_id)
    await checkpoints.save(execution, b"x" * 1000)
    assert await core.client.hget(keys.record, "result_bytes") == b"1000"  # type: ignore[misc]
    await core.executions.finish(
        execution, seq=execution.seq + 1, frame=b"frame", status=State.COMPLETED, outcome=b"{}", result=b""
    )

    assert await checkpoints.load(execution.job_id) is None
    assert await core.client.hget(keys.record, "result_bytes") == b"0"  # type: ignore[misc]
