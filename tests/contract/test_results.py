"""Test results that are stored part by part, on the real server: exactly the stored parts are reported."""

import pytest

from shared.model.events import EventId, EventType, encode_frame
from shared.model.jobs import Embedded
from shared.model.kinds import EMBEDDINGS
from shared.model.lifecycle import State
from shared.store.executions import Execution
from shared.store.results import Results
from shared.store.wire.answers import AppendAnswer, Behind, Busy, Written
from tests.support.core import Core

PART = bytes(range(8))


@pytest.fixture
def results(core: Core) -> Results:
    return Results(core.client, core.keys)


def embedded(done: int, total: int = 4) -> Embedded:
    return Embedded(
        model="a-model", done=done, total=total, dimensions=2, prompt_tokens=done, source="provider", sha256=str(done)
    )


async def keep(
    results: Results, execution: Execution, done: int, *, seq: int | None = None, part: bytes = PART
) -> AppendAnswer:
    """Keep the vector of one input, as the event of this number."""
    seq = execution.seq + done if seq is None else seq
    frame = encode_frame(EventType.PROGRESS, b"{}", EventId(execution.epoch, seq))
    place = 8 * (done - 1)
    return await results.keep(execution, seq=seq, frame=frame, place=place, part=part, embedded=embedded(done))


async def embedding(core: Core, owner: str = "worker.1") -> Execution:
    return await core.running(owner, kind=EMBEDDINGS)


async def whole(results: Results, job_id: str, size: int, page_bytes: int = 8) -> list[bytes]:
    return [page async for page in results.pages(job_id, size, page_bytes)]


async def test_a_part_its_event_and_its_progress_are_written_together(core: Core, results: Results) -> None:
    execution = await embedding(core)
    job_id = execution.job_id
    async with core.listening(core.keys.channel(job_id)) as received:
        assert await keep(results, execution, 1) == Written()
        assert await keep(results, execution, 2, part=PART[::-1]) == Written()
        live = await received.received()

    assert await core.story(job_id) == ["0-1 queued", "1-1 started", "1-2 progress", "1-3 progress"]
    assert b"".join(live) == (await core.log_bytes(job_id))[-len(b"".join(live)) :]
    assert (await core.job(job_id)).embedded == await core.store.embedded(job_id) == embedded(2)
    assert await whole(results, job_id, 16) == [PART, PART[::-1]]


async def test_the_identical_part_sent_again_is_had(core: Core, results: Results) -> None:
    execution = await embedding(core)
    assert await keep(results, execution, 1) == Written()

    assert await keep(results, execution, 1) == Written(repeated=True)

    assert await core.story(execution.job_id) == ["0-1 queued", "1-1 started", "1-2 progress"]


async def test_a_part_behind_a_lost_part_is_not_written(core: Core, results: Results) -> None:
    execution = await embedding(core)

    assert await keep(results, execution, 2) == Behind(execution.seq)

    assert await core.store.embedded(execution.job_id) is None
    assert await results.page(execution.job_id, 0, 100) == b""


async def test_a_fenced_execution_keeps_nothing(core: Core, results: Results) -> None:
    execution = await embedding(core)
    assert await keep(results, execution, 1) == Written()
    second = await core.begin(execution.job_id, "worker.2")

    assert await keep(results, execution, 2, part=b"x" * 8) == "fenced"
    assert await keep(results, second, 2, seq=second.seq + 1) == Written()

    assert await whole(results, execution.job_id, 16) == [PART, PART]


async def test_no_part_is_written_for_a_cancelling_ended_or_missing_job(core: Core, results: Results) -> None:
    cancelling, ended, gone = [await embedding(core) for _ in range(3)]
    await core.cancel(cancelling.job_id)
    await core.finish(ended, State.COMPLETED)
    await core.client.delete(core.keys.job(gone.job_id).record)

    assert [await keep(results, each, 1) for each in (cancelling, ended, gone)] == ["cancelled", "ended", "missing"]


async def test_the_next_execution_continues_behind_the_kept_parts_without_a_rollback(
    core: Core, results: Results
) -> None:
    first = await embedding(core)
    await keep(results, first, 1)
    kept = (await core.events(first.job_id))[-1]

    second = await core.begin(first.job_id, "worker.2")

    *_, started = await core.events(first.job_id)
    assert (started.type, started.id) == (EventType.STARTED, EventId(second.epoch, 1))
    assert started.json()["resumed_from"] == str(kept.id)
    assert second.seq == 1
    third = await core.begin(first.job_id, "worker.3")
    assert (await core.events(first.job_id))[-1].json()["resumed_from"] == str(EventId(second.epoch, 1))
    assert third.attempt == 3


async def test_an_execution_starts_over_if_no_part_is_kept(core: Core) -> None:
    first = await embedding(core)

    await core.begin(first.job_id, "worker.2")

    assert await core.story(first.job_id) == ["0-1 queued", "1-1 started", "2-1 rollback", "2-2 started"]


async def test_a_result_goes_with_its_job(core: Core, results: Results) -> None:
    execution = await embedding(core)
    await keep(results, execution, 1)
    assert await core.finish(execution, State.FAILED, seq=execution.seq + 2) == Written()

    record, result = [
        await core.client.execute_command("PEXPIRETIME", key)
        for key in (core.keys.job(execution.job_id).record, core.keys.job(execution.job_id).result)
    ]
    assert record == result > 0
    assert await core.store.forget(execution.job_id) == "deleted"
    assert await results.page(execution.job_id, 0, 8) == b""


async def test_a_result_shorter_than_its_recorded_size_ends_early(core: Core, results: Results) -> None:
    execution = await embedding(core)
    await keep(results, execution, 1)

    assert await whole(results, execution.job_id, 16) == [PART]
    assert await whole(results, execution.job_id, 12) == [PART]
    assert await whole(results, execution.job_id, 0) == []


async def test_an_unreadable_progress_field_counts_as_absent(core: Core) -> None:
    execution = await embedding(core)
    record = core.keys.job(execution.job_id).record
    for raw in ("no json", "[]", '{"done":1}'):
        await core.client.hset(record, "embedded", raw)  # type: ignore[misc]

        assert await core.store.embedded(execution.job_id) is None


async def test_a_server_without_room_keeps_nothing_and_may_be_asked_again(own_core: Core) -> None:
    results = Results(own_core.client, own_core.keys)
    execution = await embedding(own_core)
    await own_core.client.config_set("maxmemory", 1)

    assert isinstance(await keep(results, execution, 1), Busy)

    await own_core.client.config_set("maxmemory", 0)
    assert await keep(results, execution, 1) == Written()
