"""Test the counts of jobs that are made, begun and ended, each once, on a real server."""

from shared.model.errors import Cancelled
from shared.model.events import EventId, EventType, encode_data, encode_frame
from shared.model.lifecycle import State
from shared.model.metrics import Cells, Count, Metrics
from shared.store.executions import Execution, Executions
from shared.store.jobs import JobRecords
from shared.store.wire.answers import FinishAnswer, Written
from tests.support.core import RETENTION_S, Core, make_spec


def counting_store(core: Core) -> tuple[JobRecords, Executions, Metrics]:
    """Return the stores of a process that has just begun to count."""
    metrics = Metrics()
    store = JobRecords(core.client, core.keys, retention_s=RETENTION_S, metrics=metrics)
    return store, Executions(core.client, core.keys, retention_s=RETENTION_S, metrics=metrics), metrics


def counts(cells: Cells[Count]) -> dict[tuple[str, ...], float]:
    """Return the counts that are not 0."""
    return {labels: number for labels, (number,) in cells.samples() if number}


async def test_a_job_is_counted_when_its_record_is_made_and_not_again(core: Core) -> None:
    store, _, metrics = counting_store(core)
    spec = make_spec(lane="fast")
    for _ in range(2):
        await store.create(spec, 1)

    assert counts(metrics.submitted) == {("fast",): 1}


async def test_an_execution_is_counted_when_it_begins_and_its_rollback_with_it(core: Core) -> None:
    _, executions, metrics = counting_store(core)
    job_id = await core.queued()
    for epoch, owner in ((0, "w.1"), (0, "w.2"), (1, "w.3")):  # the second one comes too late
        await executions.begin(job_id, owner, epoch=epoch, model="m", provider="p")
    await executions.take_over(job_id, "reaper")

    assert (counts(metrics.executions), counts(metrics.rollbacks)) == ({(): 2}, {(): 1})


async def finish(
    executions: Executions, execution: Execution, status: State, outcome: dict[str, object]
) -> FinishAnswer:
    data = encode_data(outcome)
    frame = encode_frame(EventType(status.value), data, EventId(execution.epoch, 2))
    return await executions.finish(execution, seq=2, frame=frame, status=status, outcome=data)


async def test_an_end_is_counted_with_its_status_its_code_and_its_tokens(core: Core) -> None:
    store, executions, metrics = counting_store(core)
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    await finish(executions, await core.running(), State.COMPLETED, {"usage": usage})
    await finish(executions, await core.running(), State.FAILED, {"error": {"code": "server_error"}, "usage": None})
    await store.cancel(await core.queued(), Cancelled.because("abandoned"))

    ended = {("completed", ""): 1, ("failed", "server_error"): 1, ("cancelled", "abandoned"): 1}
    assert counts(metrics.ended) == ended
    assert counts(metrics.tokens) == {("prompt",): 7, ("completion",): 3}


async def test_a_repeated_end_is_counted_if_its_acknowledgement_was_lost(core: Core) -> None:
    _, executions, metrics = counting_store(core)
    execution = await core.running()
    outcome: dict[str, object] = {"usage": None}
    assert await finish(core.executions, execution, State.COMPLETED, outcome) == Written()  # the answer is lost
    assert await finish(executions, execution, State.COMPLETED, outcome) == Written(repeated=True)

    assert counts(metrics.ended) == {("completed", ""): 1}


async def test_an_end_that_is_refused_is_not_counted(core: Core) -> None:
    store, executions, metrics = counting_store(core)
    execution = await core.running()
    await core.take_over(execution.job_id)
    assert await finish(executions, execution, State.COMPLETED, {}) == "fenced"
    await store.cancel(execution.job_id, Cancelled.because("cancelled"))

    assert counts(metrics.ended) == {}
